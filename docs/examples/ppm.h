// Reads binary PPM files (P6, 8 bit) into the planes that the graphs take: RGB, floats in [0, 1], (3, H, W).
#pragma once
#include <cstddef>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

struct Image {
    std::size_t width = 0, height = 0;
    std::vector<float> planes;
};

inline Image read_ppm(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    std::string magic;
    std::size_t limit = 0;
    Image image;
    file >> magic >> image.width >> image.height >> limit;
    file.get();
    if (!file || magic != "P6" || limit != 255) throw std::runtime_error(path + ": not an 8-bit binary PPM");
    const std::size_t pixels = image.width * image.height;
    std::vector<unsigned char> bytes(3 * pixels);
    file.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    if (!file) throw std::runtime_error(path + ": truncated");
    image.planes.resize(3 * pixels);
    for (std::size_t i = 0; i < pixels; ++i)
        for (std::size_t c = 0; c < 3; ++c) image.planes[c * pixels + i] = bytes[3 * i + c] / 255.0f;
    return image;
}
