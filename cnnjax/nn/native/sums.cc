// Sums over all places of two arrays [..., C] of one shape: for each channel that of the first, and
// that of its product with the second less a number. Float32 or bfloat16 and float32 [C] in,
// float32 [2, C] out.

#include <algorithm>
#include <cstdint>
#include <vector>

#include "elements.h"
#include "runtime.h"
#include "xla/ffi/api/ffi.h"

namespace cnnjax {
namespace {

namespace ffi = xla::ffi;

constexpr int64_t kWidth = 64;      // numbers that are added side by side, at least
constexpr int64_t kRows = 256;      // rows that are added in float32, before it goes on in float64

// Adds `count` places, from the first of `a` and `b`, to totals [2, channels].
template <typename T>
void AddPlaces(const T* __restrict a, const T* __restrict b, const float* centres, int64_t count,
               int64_t channels, double* totals) {
  const int64_t abreast = std::max<int64_t>(1, kWidth / channels), width = abreast * channels;
  std::vector<float> sums(2 * width), repeated(width);
  for (int64_t i = 0; i < width; ++i) repeated[i] = centres[i % channels];
  const float* __restrict centre = repeated.data();
  float* __restrict first = sums.data();
  float* __restrict product = first + width;
  const int64_t rows = count / abreast;
  for (int64_t row = 0; row <= rows;) {
    std::fill(sums.begin(), sums.end(), 0.0f);
    const int64_t end = std::min(rows, row + kRows);
    for (; row < end; ++row) {
      const T* one = a + row * width;
      const T* other = b + row * width;
#pragma omp simd
      for (int64_t i = 0; i < width; ++i) {
        const float value = Number(one[i]);
        first[i] += value;
        product[i] += value * (Number(other[i]) - centre[i]);
      }
    }
    if (row == rows) {  // what is left of a row
      for (int64_t i = 0; i < (count - rows * abreast) * channels; ++i) {
        const float value = Number(a[rows * width + i]);
        first[i] += value;
        product[i] += value * (Number(b[rows * width + i]) - centre[i]);
      }
      ++row;
    }
    for (int64_t i = 0; i < width; ++i) {
      totals[i % channels] += first[i];
      totals[channels + i % channels] += product[i];
    }
  }
}

template <typename T>
void Sum(const T* a, const T* b, const float* centres, int64_t places, int64_t channels,
         float* result) {
  const int parts = Threads();
  std::vector<double> totals(parts * 2 * channels);
#pragma omp parallel for schedule(static)
  for (int part = 0; part < parts; ++part) {
    const int64_t begin = places * part / parts, end = places * (part + 1) / parts;
    AddPlaces(a + begin * channels, b + begin * channels, centres, end - begin, channels,
              totals.data() + part * 2 * channels);
  }
  for (int64_t i = 0; i < 2 * channels; ++i) {
    double total = 0;
    for (int part = 0; part < parts; ++part) total += totals[part * 2 * channels + i];
    result[i] = static_cast<float>(total);
  }
}

ffi::Error CallSums(ffi::AnyBuffer a, ffi::AnyBuffer b, ffi::BufferR1<ffi::F32> centres,
                    ffi::ResultBufferR2<ffi::F32> result) {
  const int64_t channels = result->dimensions()[1];
  return ForType(a.element_type(), [&](auto type) {
    Sum(Data(a, type), Data(b, type), centres.typed_data(), a.element_count() / channels, channels,
        result->typed_data());
  });
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(CnnjaxSums, CallSums,
                              ffi::Ffi::Bind()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::BufferR1<ffi::F32>>()
                                  .Ret<ffi::BufferR2<ffi::F32>>());

}  // namespace cnnjax
