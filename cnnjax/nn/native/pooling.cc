// Max pooling over 2x2 windows with stride 2, and the two linear maps that its derivatives are made
// of. Arrays are [N, H, W, C], dense, float32 or bfloat16; a last odd row or column is in no window.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "elements.h"
#include "xla/ffi/api/ffi.h"

namespace cnnjax {
namespace {

namespace ffi = xla::ffi;

// Sixteen numbers at once, in the vector types that GCC and Clang share. Comparing gives -1 or 0.
constexpr int64_t kLanes = 16;
using Numbers = float __attribute__((vector_size(kLanes * 4)));
using Bits = int32_t __attribute__((vector_size(kLanes * 4)));
using Halves = uint16_t __attribute__((vector_size(kLanes * 2)));
using Bytes = uint8_t __attribute__((vector_size(kLanes)));

inline Bits Load(const float* from) {
  Bits bits;
  std::memcpy(&bits, from, sizeof(bits));
  return bits;
}
inline Bits Load(const uint16_t* from) {  // bfloat16 is the upper half of float32
  Halves halves;
  std::memcpy(&halves, from, sizeof(halves));
  return __builtin_convertvector(halves, Bits) << 16;
}
inline void Store(Bits bits, float* to) { std::memcpy(to, &bits, sizeof(bits)); }
inline void Store(Bits bits, uint16_t* to) {
  const Halves halves = __builtin_convertvector(bits >> 16, Halves);
  std::memcpy(to, &halves, sizeof(halves));
}

// The larger of two elements and its place; the first of equal ones, and NaN where there is one.
struct Best {
  Bits element, place;
};
inline Best Larger(Best first, Best second) {
  const Numbers one = (Numbers)first.element, other = (Numbers)second.element;
  const Bits keep = (one >= other) | (one != one);
  return {(first.element & keep) | (second.element & ~keep),
          (first.place & keep) | (second.place & ~keep)};
}

// A row of windows is worked on with its four corners apart: a[i], b[i] above and c[i], d[i] below
// are the elements of one window. Such loops run over many numbers, however few channels there are.
// `places` has room for as many; all are in whole vectors.
template <typename T>
struct Corners {
  T *a, *b, *c, *d;
  uint8_t* places;
};

template <typename T>
void Part(const T* top, const T* bottom, int64_t columns, int64_t channels, Corners<T> to) {
  for (int64_t column = 0, i = 0; column < columns; ++column) {
    for (int64_t k = 0; k < channels; ++k, ++i) {
      const int64_t at = 2 * column * channels + k;
      to.a[i] = top[at];
      to.b[i] = top[at + channels];
      to.c[i] = bottom[at];
      to.d[i] = bottom[at + channels];
    }
  }
}

template <typename T>
void Join(Corners<T> from, int64_t columns, int64_t channels, T* top, T* bottom) {
  for (int64_t column = 0, i = 0; column < columns; ++column) {
    for (int64_t k = 0; k < channels; ++k, ++i) {
      const int64_t at = 2 * column * channels + k;
      top[at] = from.a[i];
      top[at + channels] = from.b[i];
      bottom[at] = from.c[i];
      bottom[at + channels] = from.d[i];
    }
  }
}

// Puts the largest of each window into a, and its place into places.
template <typename T>
void Largest(Corners<T> x, int64_t count) {
  for (int64_t i = 0; i < count; i += kLanes) {
    const Best above = Larger({Load(x.a + i), Bits{}}, {Load(x.b + i), Bits{} + 1});
    const Best below = Larger({Load(x.c + i), Bits{} + 2}, {Load(x.d + i), Bits{} + 3});
    const Best best = Larger(above, below);
    Store(best.element, x.a + i);
    const Bytes bytes = __builtin_convertvector(best.place, Bytes);
    std::memcpy(x.places + i, &bytes, sizeof(bytes));
  }
}

template <typename T>
void Take(Corners<T> x, const uint8_t* places, int64_t count, T* y) {
#pragma omp simd
  for (int64_t i = 0; i < count; ++i) {
    const int place = places[i];
    const T above = place & 1 ? x.b[i] : x.a[i], below = place & 1 ? x.d[i] : x.c[i];
    y[i] = place & 2 ? below : above;
  }
}

template <typename T>
void Put(const T* y, const uint8_t* places, int64_t count, Corners<T> x) {
#pragma omp simd
  for (int64_t i = 0; i < count; ++i) {
    const T value = y[i];
    const int place = places[i];
    x.a[i] = place == 0 ? value : T{};
    x.b[i] = place == 1 ? value : T{};
    x.c[i] = place == 2 ? value : T{};
    x.d[i] = place == 3 ? value : T{};
  }
}

// The windows of a batch: the larger array is [images, height, width, channels], the smaller one
// [images, rows, columns, channels].
struct Windows {
  int64_t images, height, width, rows, columns, channels;

  Windows(ffi::AnyBuffer::Dimensions large, ffi::AnyBuffer::Dimensions small)
      : images(large[0]), height(large[1]), width(large[2]),
        rows(small[1]), columns(small[2]), channels(small[3]) {}

  // Calls run(upper row of the larger array, row of the smaller, room for a row's corners) for all
  // rows, which are given by their first elements.
  template <typename T, typename Run>
  void ForRows(Run run) const {
    const int64_t count = columns * channels;
    const int64_t whole = (count + kLanes - 1) / kLanes * kLanes;
#pragma omp parallel
    {
      std::vector<T> room(4 * whole);
      std::vector<uint8_t> places(whole);
      T* first = room.data();
      const Corners<T> corners{first, first + whole, first + 2 * whole, first + 3 * whole,
                               places.data()};
#pragma omp for schedule(static)
      for (int64_t row = 0; row < images * rows; ++row) {
        run((row / rows * height + row % rows * 2) * width * channels, row * count, corners);
      }
    }
  }
};

template <typename T>
void PoolMax(const Windows& windows, const T* x, T* y, uint8_t* places) {
  const int64_t columns = windows.columns, channels = windows.channels;
  windows.ForRows<T>([=, &windows](int64_t large, int64_t small, Corners<T> corners) {
    const T* top = x + large;
    Part(top, top + windows.width * channels, columns, channels, corners);
    Largest(corners, columns * channels);
    std::copy_n(corners.a, columns * channels, y + small);
    std::copy_n(corners.places, columns * channels, places + small);
  });
}

template <typename T>
void PoolTake(const Windows& windows, const T* x, const uint8_t* places, T* y) {
  const int64_t columns = windows.columns, channels = windows.channels;
  windows.ForRows<T>([=, &windows](int64_t large, int64_t small, Corners<T> corners) {
    const T* top = x + large;
    Part(top, top + windows.width * channels, columns, channels, corners);
    Take(corners, places + small, columns * channels, y + small);
  });
}

template <typename T>
void PoolPut(const Windows& windows, const T* y, const uint8_t* places, T* x) {
  const int64_t columns = windows.columns, channels = windows.channels;
  if (windows.height % 2 || windows.width % 2) {  // what lies in no window
    std::fill_n(x, windows.images * windows.height * windows.width * channels, T{});
  }
  windows.ForRows<T>([=, &windows](int64_t large, int64_t small, Corners<T> corners) {
    T* top = x + large;
    Put(y + small, places + small, columns * channels, corners);
    Join(corners, columns, channels, top, top + windows.width * channels);
  });
}

using Places = ffi::BufferR4<ffi::U8>;

ffi::Error CallMax(ffi::AnyBuffer x, ffi::Result<ffi::AnyBuffer> y, ffi::Result<Places> places) {
  const Windows windows(x.dimensions(), y->dimensions());
  return ForType(x.element_type(), [&](auto type) {
    PoolMax(windows, Data(x, type), Data(*y, type), places->typed_data());
  });
}

ffi::Error CallTake(ffi::AnyBuffer x, Places places, ffi::Result<ffi::AnyBuffer> y) {
  const Windows windows(x.dimensions(), y->dimensions());
  return ForType(x.element_type(), [&](auto type) {
    PoolTake(windows, Data(x, type), places.typed_data(), Data(*y, type));
  });
}

ffi::Error CallPut(ffi::AnyBuffer y, Places places, ffi::Result<ffi::AnyBuffer> x) {
  const Windows windows(x->dimensions(), y.dimensions());
  return ForType(y.element_type(), [&](auto type) {
    PoolPut(windows, Data(y, type), places.typed_data(), Data(*x, type));
  });
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(
    CnnjaxPoolMax, CallMax,
    ffi::Ffi::Bind().Arg<ffi::AnyBuffer>().Ret<ffi::AnyBuffer>().Ret<Places>());

XLA_FFI_DEFINE_HANDLER_SYMBOL(
    CnnjaxPoolTake, CallTake,
    ffi::Ffi::Bind().Arg<ffi::AnyBuffer>().Arg<Places>().Ret<ffi::AnyBuffer>());

XLA_FFI_DEFINE_HANDLER_SYMBOL(
    CnnjaxPoolPut, CallPut,
    ffi::Ffi::Bind().Arg<ffi::AnyBuffer>().Arg<Places>().Ret<ffi::AnyBuffer>());

}  // namespace cnnjax
