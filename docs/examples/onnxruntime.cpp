// Features and matches of two images with ONNX Runtime. Prints one match a line: x0 y0 x1 y1 score, in pixels.
//   ./features frontend.onnx matcher.onnx a.ppm b.ppm
#include <onnxruntime_cxx_api.h>

#include <array>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <utility>
#include <vector>

#include "ppm.h"

namespace {

// Keypoints, descriptors, mask and tokens, in the order in which the matcher takes them.
std::vector<Ort::Value> extract(Ort::Session& frontend, Image& image) {
    const std::array<std::int64_t, 4> shape{1, 3, static_cast<std::int64_t>(image.height),
                                            static_cast<std::int64_t>(image.width)};
    const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
    auto input = Ort::Value::CreateTensor<float>(memory, image.planes.data(), image.planes.size(), shape.data(),
                                                 shape.size());
    const char* inputs[] = {"image"};
    const char* outputs[] = {"keypoints", "descriptors", "mask", "tokens"};
    return frontend.Run(Ort::RunOptions{nullptr}, inputs, &input, 1, outputs, 4);
}

}  // namespace

int main(int argc, char** argv) try {
    if (argc != 5) {
        std::fprintf(stderr, "usage: %s frontend.onnx matcher.onnx a.ppm b.ppm\n", argv[0]);
        return 2;
    }
    Ort::Env environment(ORT_LOGGING_LEVEL_WARNING, "slamfeat");
    Ort::SessionOptions options;  // on a GPU: options.AppendExecutionProvider_CUDA(OrtCUDAProviderOptions{});
    // On Windows the paths are wide strings.
    Ort::Session frontend(environment, argv[1], options), matcher(environment, argv[2], options);
    Image image0 = read_ppm(argv[3]), image1 = read_ppm(argv[4]);

    auto features = extract(frontend, image0);
    for (auto& value : extract(frontend, image1)) features.push_back(std::move(value));
    const char* inputs[] = {"keypoints0", "descriptors0", "mask0", "tokens0",
                            "keypoints1", "descriptors1", "mask1", "tokens1"};
    const char* outputs[] = {"indices0", "scores"};
    auto matches = matcher.Run(Ort::RunOptions{nullptr}, inputs, features.data(), features.size(), outputs, 2);

    const auto* indices = matches[0].GetTensorData<std::int64_t>();
    const auto* scores = matches[1].GetTensorData<float>();
    const auto* points0 = features[0].GetTensorData<float>();
    const auto* points1 = features[4].GetTensorData<float>();
    const auto slots = matches[0].GetTensorTypeAndShapeInfo().GetElementCount();
    for (std::size_t i = 0; i < slots; ++i) {
        const auto j = indices[i];
        if (j < 0) continue;
        std::printf("%.3f %.3f %.3f %.3f %.4f\n", points0[2 * i], points0[2 * i + 1], points1[2 * j], points1[2 * j + 1],
                    scores[i]);
    }
    return 0;
} catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 1;
}
