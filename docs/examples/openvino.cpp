// Features and matches of two images with OpenVINO. Prints one match a line: x0 y0 x1 y1 score, in pixels.
//   ./features frontend.onnx matcher.onnx a.ppm b.ppm
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <openvino/openvino.hpp>

#include "ppm.h"

namespace {

struct Features {
    ov::Tensor keypoints, descriptors, mask, tokens;
};

Features extract(ov::CompiledModel& frontend, const Image& image) {
    ov::Tensor input(ov::element::f32, {1, 3, image.height, image.width});
    std::copy(image.planes.begin(), image.planes.end(), input.data<float>());
    // One request an image: its outputs stay valid as long as the tensors are held.
    auto request = frontend.create_infer_request();
    request.set_tensor("image", input);
    request.infer();
    return {request.get_tensor("keypoints"), request.get_tensor("descriptors"), request.get_tensor("mask"),
            request.get_tensor("tokens")};
}

}  // namespace

int main(int argc, char** argv) try {
    if (argc != 5) {
        std::fprintf(stderr, "usage: %s frontend.onnx matcher.onnx a.ppm b.ppm\n", argv[0]);
        return 2;
    }
    ov::Core core;
    // Faster and less exact: leave the precision out where the processor has bfloat16.
    auto frontend = core.compile_model(argv[1], "CPU", ov::hint::inference_precision(ov::element::f32));
    auto matcher = core.compile_model(argv[2], "CPU", ov::hint::inference_precision(ov::element::f32));
    const Features first = extract(frontend, read_ppm(argv[3])), second = extract(frontend, read_ppm(argv[4]));

    auto request = matcher.create_infer_request();
    request.set_tensor("keypoints0", first.keypoints);
    request.set_tensor("descriptors0", first.descriptors);
    request.set_tensor("mask0", first.mask);
    request.set_tensor("tokens0", first.tokens);
    request.set_tensor("keypoints1", second.keypoints);
    request.set_tensor("descriptors1", second.descriptors);
    request.set_tensor("mask1", second.mask);
    request.set_tensor("tokens1", second.tokens);
    request.infer();
    const auto found = request.get_tensor("indices0"), quality = request.get_tensor("scores");
    const auto* indices = found.data<std::int64_t>();
    const auto* scores = quality.data<float>();
    const auto* points0 = first.keypoints.data<float>();
    const auto* points1 = second.keypoints.data<float>();
    for (std::size_t i = 0; i < found.get_size(); ++i) {
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
