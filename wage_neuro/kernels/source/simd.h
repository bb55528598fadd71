// Vectors of one instruction set. LEVEL 0: no intrinsics; 1: AVX2; 2: AVX-VNNI; 3: AVX-512 with VNNI.
// Everything lies in an unnamed namespace: objects of different instruction sets share one library.
#pragma once
#include <stdlib.h>
#include <string.h>
#ifdef __linux__
#include <sys/mman.h>
#endif

#include <new>

#include "api.h"
#if LEVEL
#pragma GCC diagnostic push
#ifndef __clang__  // a false alarm inside GCC 12's own header
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>
#pragma GCC diagnostic pop
#endif

namespace {

constexpr int VB = LEVEL == 3 ? 64 : LEVEL ? 32 : 16;  // bytes of a vector
constexpr int VL = VB / 4;                             // sums in it
constexpr int NB = 2 * VL;                             // columns of a product's tile
constexpr int TILE = LEVEL == 3 ? 14 : 6;  // its rows at most: as many as there are registers
constexpr int GROWS = LEVEL == 3 ? 8 : LEVEL == 2 ? 6 : 5;  // the same of a gradient's tile

typedef i32 vi __attribute__((vector_size(VB)));
typedef u32 vu __attribute__((vector_size(VB)));
typedef u8 vb __attribute__((vector_size(VL)));
typedef i16 vh __attribute__((vector_size(2 * VL)));
typedef i8 vs __attribute__((vector_size(VB)));
typedef u16 vw __attribute__((vector_size(VB)));
typedef i16 vx __attribute__((vector_size(VB)));
typedef u64 vq __attribute__((vector_size(VB)));

template <class T> inline T least(T a, T b) { return a < b ? a : b; }
template <class T> inline T most(T a, T b) { return a > b ? a : b; }
inline i64 up(i64 x, i64 unit) { return (x + unit - 1) / unit * unit; }

template <class V = vi> inline V load(const void *p) {
  V v;
  memcpy(&v, p, sizeof v);
  return v;
}
template <class V> inline void store(void *p, V v) { memcpy(p, &v, sizeof v); }
inline vi all(i32 x) { return vi{} + x; }
inline vu all(u32 x) { return vu{} + x; }
inline vw all(u16 x) { return vw{} + x; }
inline vs all(i8 x) { return vs{} + x; }
inline vq all(u64 x) { return vq{} + x; }
inline vi vmin(vi a, vi b) { return a < b ? a : b; }
inline vi vmax(vi a, vi b) { return a > b ? a : b; }

// The lower bytes, or words, of every sum, and back without a sign. (GCC 12 takes __builtin_convertvector apart.)
inline void store_bytes(void *p, vi x) {
#if LEVEL == 3
  _mm_storeu_si128((__m128i *)p, _mm512_cvtepi32_epi8((__m512i)x));
#elif LEVEL
  const __m256i first = _mm256_setr_epi8(0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, 0, 4, 8, 12, -1, -1, -1,
                                         -1, -1, -1, -1, -1, -1, -1, -1, -1);
  __m256i y = _mm256_permutevar8x32_epi32(_mm256_shuffle_epi8((__m256i)x, first), _mm256_setr_epi32(0, 4, 1, 1, 1, 1, 1, 1));
  _mm_storel_epi64((__m128i *)p, _mm256_castsi256_si128(y));
#else
  store(p, __builtin_convertvector(x, vb));
#endif
}
inline void store_words(void *p, vi x) {
#if LEVEL == 3
  _mm256_storeu_si256((__m256i *)p, _mm512_cvtepi32_epi16((__m512i)x));
#elif LEVEL
  const __m256i first = _mm256_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, -1, -1, -1, -1, -1, -1, -1, -1, 0, 1, 4, 5, 8, 9, 12, 13, -1,
                                         -1, -1, -1, -1, -1, -1, -1);
  __m256i y = _mm256_permute4x64_epi64(_mm256_shuffle_epi8((__m256i)x, first), 0x08);
  _mm_storeu_si128((__m128i *)p, _mm256_castsi256_si128(y));
#else
  store(p, __builtin_convertvector(x, vh));
#endif
}
inline vu load_codes(const i8 *p) {
#if LEVEL == 3
  return (vu)_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p));
#elif LEVEL
  return (vu)_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p));
#else
  return __builtin_convertvector(load<vb>(p), vu);
#endif
}
inline vu load_codes(const i16 *p) {
#if LEVEL == 3
  return (vu)_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p));
#elif LEVEL
  return (vu)_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p));
#else
  return __builtin_convertvector(load<vh>(p), vu) & 0xFFFFu;
#endif
}
inline vi load_signed(const i8 *p) { return (vi)(load_codes(p) << 24) >> 24; }
inline vi load_signed(const i16 *p) { return (vi)(load_codes(p) << 16) >> 16; }
inline void store_codes(u8 *p, vi x) { store_bytes(p, x); }
inline void store_codes(i8 *p, vi x) { store_bytes(p, x); }
inline void store_codes(i16 *p, vi x) { store_words(p, x); }

// An array on a cache line, zeros, with room behind it for loads past its end.
template <class T> struct Buf {
  T *p = nullptr;
  Buf() {}
  Buf(const Buf &) = delete;
  Buf &operator=(const Buf &) = delete;
  ~Buf() { free(p); }
  void make(i64 n, int fill = 0) {
    const i64 wanted = n * (i64)sizeof(T) + 4 * VB, page = 1 << 21, unit = wanted < 2 * page ? 64 : page;
    const size_t bytes = (size_t)up(wanted, unit);
    free(p);
    p = (T *)aligned_alloc((size_t)unit, bytes);
    if (!p) throw std::bad_alloc();
#ifdef MADV_HUGEPAGE
    if (unit == page) madvise(p, bytes, MADV_HUGEPAGE);  // a hint: fewer misses where pages are translated
#endif
    memset(p, fill, bytes);
  }
  operator T *() const { return p; }
};

// --- products: a sum of 4 products of bytes, or of 2 of 16 bits, into each 32-bit sum ---------------

#if LEVEL == 3
inline vi bcast(const u8 *p) { return (vi)_mm512_set1_epi32(load<i32>(p)); }
#elif LEVEL
inline vi bcast(const u8 *p) { return (vi)_mm256_set1_epi32(load<i32>(p)); }
#else
inline vi bcast(const u8 *p) { return all(load<i32>(p)); }
#endif

#if LEVEL < 2  // pairs are added in 16 bits: see `bytes_are_exact`
inline vx pairs_of(vi a, vi w) {
#if LEVEL
  return (vx)_mm256_maddubs_epi16((__m256i)a, (__m256i)w);
#else
  const vw x = (vw)a, y = (vw)w;
  return (vx)(x & 255) * ((vx)(y << 8) >> 8) + (vx)(x >> 8) * ((vx)y >> 8);
#endif
}
inline vi add_pairs(vi c, vx pairs) {
#if LEVEL
  return c + (vi)_mm256_madd_epi16((__m256i)pairs, _mm256_set1_epi16(1));
#else
  return c + ((vi)((vu)pairs << 16) >> 16) + ((vi)pairs >> 16);
#endif
}
#endif

struct Byte {
  typedef u8 A;  // codes of activations, or signed codes plus 128
  typedef i8 W;
  static constexpr int Q = 4;       // codes in the place of one sum
  static constexpr int BIAS = 128;  // of signed codes in the place of A
  static constexpr int ROWS = LEVEL < 2 ? 5 : TILE;
  static constexpr int RUN = 1;  // sums of 4 products that are added in 16 bits
  static inline vi dot(vi c, vi a, vi w) {
#if LEVEL == 3
    return (vi)_mm512_dpbusd_epi32((__m512i)c, (__m512i)a, (__m512i)w);
#elif LEVEL == 2
    return (vi)_mm256_dpbusd_avx_epi32((__m256i)c, (__m256i)a, (__m256i)w);
#else
    return add_pairs(c, pairs_of(a, w));
#endif
  }
};

#if LEVEL < 2
struct Ternary : Byte {  // weights -1, 0, 1: a pair reaches 2 * 255, and 64 of them stay in 16 bits
  static constexpr int ROWS = TILE;
  static constexpr int RUN = 64;
};
#else
typedef Byte Ternary;
#endif

struct Word {
  typedef i16 A;
  typedef i16 W;
  static constexpr int Q = 2;
  static constexpr int BIAS = 0;
  static constexpr int ROWS = Byte::ROWS;
  static constexpr int RUN = 1;
  static inline vi dot(vi c, vi a, vi w) {
#if LEVEL == 3
    return (vi)_mm512_dpwssd_epi32((__m512i)c, (__m512i)a, (__m512i)w);
#elif LEVEL == 2
    return (vi)_mm256_dpwssd_avx_epi32((__m256i)c, (__m256i)a, (__m256i)w);
#elif LEVEL == 1
    return c + (vi)_mm256_madd_epi16((__m256i)a, (__m256i)w);
#else
    for (int j = 0; j < 2; j++) c += ((vi)((vu)a << (16 - 16 * j)) >> 16) * ((vi)((vu)w << (16 - 16 * j)) >> 16);
    return c;
#endif
  }
};

// Whether no sum of a pair of byte products leaves 16 bits where those are added first.
inline bool bytes_are_exact(const Spec &s) { return LEVEL > 1 || (s.k_W <= 7 && !s.signed_in); }

// --- rounding --------------------------------------------------------------------------------------

// x / 2**s, halves to even, s >= 0; abs(x) < 2**30
inline vi round_shift(vi x, int s) { return s ? (x + ((1 << (s - 1)) - 1) + (x >> s & 1)) >> s : x; }
template <class T> inline T round_shift_one(T x, int s) {
  if (s <= 0) return (T)((u64)x << -s);
  return (T)((x + (((T)1 << (s - 1)) - 1) + (x >> s & 1)) >> s);
}

// round(log2 x), x >= 1: sqrt(2) * 2**n is irrational, so no tie occurs
inline int log2_round(u64 x) {
  int floor = 63 - __builtin_clzll(x);
  return floor + (x << (63 - floor) > 0xB504F333F9DE6484ull);
}

// moved[j] = -1 where q[j] + r[j] >= 2**16, n of them; n is a multiple of 64
inline void carries(const u16 *q, const u16 *r, int n, i8 *moved) {
#if LEVEL == 3
  for (int j = 0; j < n; j += 64) {
    __m512i a = load<__m512i>(r + j), b = load<__m512i>(r + j + 32);
    u64 low = _mm512_cmplt_epu16_mask(_mm512_add_epi16(a, load<__m512i>(q + j)), a);
    u64 high = _mm512_cmplt_epu16_mask(_mm512_add_epi16(b, load<__m512i>(q + j + 32)), b);
    store(moved + j, _mm512_movm_epi8(low | high << 32));
  }
#elif LEVEL
  for (int j = 0; j < n; j += 32) {
    __m256i over[2];
    for (int k = 0; k < 2; k++) {  // r + q without carry stays at most 0xFFFF: it saturates or not
      __m256i a = load<__m256i>(r + j + 16 * k), b = load<__m256i>(q + j + 16 * k);
      over[k] = _mm256_xor_si256(_mm256_cmpeq_epi16(_mm256_add_epi16(a, b), _mm256_adds_epu16(a, b)), _mm256_set1_epi8(-1));
    }
    store(moved + j, _mm256_permute4x64_epi64(_mm256_packs_epi16(over[0], over[1]), 0xD8));
  }
#else
  for (int j = 0; j < n; j++) moved[j] = (i8)-((u32)q[j] + r[j] > 0xFFFF);
#endif
}

// moved[j] = -1 where floor(m[j] * x * 2**-right * 2**left) + r[j] >= 2**16, of 128; m * x < 2**15, right < 16
inline void outer_carries(const u16 *m, u16 x, int right, int left, const u16 *r, i8 *moved) {
  const vw limit = all((u16)(0xFFFF >> left));  // a product above it is a whole step, whatever r is
  left = left < 15 ? left : 15;
#if LEVEL == 3
  const __m128i count = _mm_cvtsi32_si128(right ? right : left);
  for (int j = 0; j < 128; j += 64) {
    u64 mask[2];
    for (int k = 0; k < 2; k++) {
      const __m512i g = (__m512i)(load<vw>(m + j + 32 * k) * x), a = load<__m512i>(r + j + 32 * k);
      const __m512i q = right ? _mm512_srl_epi16(g, count) : _mm512_sll_epi16(g, count);
      mask[k] = _mm512_cmplt_epu16_mask(_mm512_add_epi16(a, q), a) | _mm512_cmpgt_epu16_mask(g, (__m512i)limit);
    }
    store(moved + j, _mm512_movm_epi8(mask[0] | mask[1] << 32));
  }
#else
  alignas(64) u16 q[128];
  for (int j = 0; j < 128; j += VB / 2) {
    const vw g = load<vw>(m + j) * x;
    store(q + j, right ? g >> right : g << left);
  }
  carries(q, r, 128, moved);
  if (left)
    for (int j = 0; j < 128; j += VB) {
      alignas(64) i16 over[VB];
      for (int k = 0; k < VB; k += VB / 2) store(over + k, load<vw>(m + j + k) * x > limit);
      for (int k = 0; k < VB; k++) moved[j + k] |= (i8)over[k];
    }
#endif
}
inline u32 any_of(vu x) {
  u32 any = 0;
  for (int l = 0; l < VL; l++) any |= x[l];
  return any;
}
inline bool any_bit(vw x) {
  u64 part[VB / 8], any = 0;
  memcpy(part, &x, sizeof part);
  for (int i = 0; i < VB / 8; i++) any |= part[i];
  return any != 0;
}

// --- random bits: Philox4x64-10 or Philox4x32-10, words as wage_neuro.random_bits names them --------

struct Stream {
  u64 seed, purpose, layer, step;
  bool narrow;  // 4x32
};
constexpr u64 M0 = 0xD2E7470EE14C6C93ull, M1 = 0xCA5A826395121157ull;
constexpr u64 W0 = 0x9E3779B97F4A7C15ull, W1 = 0xBB67AE8584CAA73Bull;
constexpr u64 M0_32 = 0xD2511F53ull, M1_32 = 0xCD9E8D57ull, W0_32 = 0x9E3779B9ull, W1_32 = 0xBB67AE85ull;
constexpr int GROUP = 128;  // 16-bit numbers that are drawn together: 8 blocks of 4x64, 16 of 4x32

#if LEVEL
inline vq mul32(vq a, vq b) {  // lower halves
#if LEVEL == 3
  return (vq)_mm512_mul_epu32((__m512i)a, (__m512i)b);
#else
  return (vq)_mm256_mul_epu32((__m256i)a, (__m256i)b);
#endif
}
inline vq xor3(vq a, vq b, u64 k) {
#if LEVEL == 3
  return (vq)_mm512_ternarylogic_epi64((__m512i)a, (__m512i)b, _mm512_set1_epi64((i64)k), 0x96);
#else
  return a ^ b ^ k;
#endif
}
inline void wide_product(vq x, u64 m, vq &high, vq &low) {
  const vq ml = all(m), mh = all(m >> 32), L = all((u64)0xffffffff);
  vq xh = x >> 32, ll = mul32(x, ml), lh = mul32(x, mh), hl = mul32(xh, ml), hh = mul32(xh, mh);
  vq t = hl + (ll >> 32), u = lh + (t & L);
  high = hh + (t >> 32) + (u >> 32);
#if LEVEL == 3
  low = (vq)_mm512_mask_blend_epi32(0xAAAA, (__m512i)ll, (__m512i)(u << 32));
#else
  low = (vq)_mm256_blend_epi32((__m256i)ll, (__m256i)(u << 32), 0xAA);
#endif
}
inline void write_blocks(vq a, vq b, vq c, vq d, u64 *out) {
#if LEVEL == 3
  __m512i A = (__m512i)a, B = (__m512i)b, C = (__m512i)c, D = (__m512i)d;
  __m512i ab0 = _mm512_unpacklo_epi64(A, B), ab1 = _mm512_unpackhi_epi64(A, B);
  __m512i cd0 = _mm512_unpacklo_epi64(C, D), cd1 = _mm512_unpackhi_epi64(C, D);
  const __m512i lower = _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11), upper = _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15);
  __m512i x = _mm512_permutex2var_epi64(ab0, lower, cd0), y = _mm512_permutex2var_epi64(ab1, lower, cd1);
  __m512i v = _mm512_permutex2var_epi64(ab0, upper, cd0), w = _mm512_permutex2var_epi64(ab1, upper, cd1);
  _mm512_storeu_si512(out, _mm512_shuffle_i64x2(x, y, 0x44));
  _mm512_storeu_si512(out + 8, _mm512_shuffle_i64x2(x, y, 0xEE));
  _mm512_storeu_si512(out + 16, _mm512_shuffle_i64x2(v, w, 0x44));
  _mm512_storeu_si512(out + 24, _mm512_shuffle_i64x2(v, w, 0xEE));
#else
  __m256i A = (__m256i)a, B = (__m256i)b, C = (__m256i)c, D = (__m256i)d;
  __m256i ab0 = _mm256_unpacklo_epi64(A, B), ab1 = _mm256_unpackhi_epi64(A, B);
  __m256i cd0 = _mm256_unpacklo_epi64(C, D), cd1 = _mm256_unpackhi_epi64(C, D);
  store(out, _mm256_permute2x128_si256(ab0, cd0, 0x20));
  store(out + 4, _mm256_permute2x128_si256(ab1, cd1, 0x20));
  store(out + 8, _mm256_permute2x128_si256(ab0, cd0, 0x31));
  store(out + 12, _mm256_permute2x128_si256(ab1, cd1, 0x31));
#endif
}
inline void write_narrow(vq x, vq y, u64 *out) {  // two words a lane
#if LEVEL == 3
  const __m512i lower = _mm512_setr_epi64(0, 8, 1, 9, 2, 10, 3, 11), upper = _mm512_setr_epi64(4, 12, 5, 13, 6, 14, 7, 15);
  _mm512_storeu_si512(out, _mm512_permutex2var_epi64((__m512i)x, lower, (__m512i)y));
  _mm512_storeu_si512(out + 8, _mm512_permutex2var_epi64((__m512i)x, upper, (__m512i)y));
#else
  const __m256i low = _mm256_unpacklo_epi64((__m256i)x, (__m256i)y), high = _mm256_unpackhi_epi64((__m256i)x, (__m256i)y);
  store(out, _mm256_permute2x128_si256(low, high, 0x20));
  store(out + 4, _mm256_permute2x128_si256(low, high, 0x31));
#endif
}
// G groups of 16 blocks. Words in the lower halves; what is above them is multiplied by nothing.
template <int G> inline void philox_narrow(const Stream &key, const u64 *first, u64 *out) {
  constexpr int LANES = VB / 8, PART = 16 / LANES, W = G * PART;
  const vq L = all((u64)0xffffffff);
  vq a[W], b[W], c[W], d[W], count;
  for (int l = 0; l < LANES; l++) count[l] = (u64)l;
#pragma GCC unroll 8
  for (int w = 0; w < W; w++)
    a[w] = 2 * first[w / PART] + (u64)(w % PART * LANES) + count, b[w] = all(key.step), c[w] = all(key.step >> 32),
    d[w] = all(key.purpose << 16 | key.layer);
  u64 k0 = key.seed, k1 = key.seed >> 32;
#pragma GCC unroll 10
  for (int r = 0; r < 10; r++) {
#pragma GCC unroll 8
    for (int w = 0; w < W; w++) {
      const vq p0 = mul32(a[w], all(M0_32)), p1 = mul32(c[w], all(M1_32));
      a[w] = xor3(p1 >> 32, b[w], k0), b[w] = p1, c[w] = xor3(p0 >> 32, d[w], k1), d[w] = p0;
    }
    k0 += W0_32, k1 += W1_32;
  }
#pragma GCC unroll 8
  for (int w = 0; w < W; w++) write_narrow((a[w] & L) | b[w] << 32, (c[w] & L) | d[w] << 32, out + 2 * LANES * w);
}
template <int W> inline void philox(const Stream &key, const u64 *first, u64 *out) {  // W vectors of blocks at once
  constexpr int LANES = VB / 8;
  vq a[W], b[W], c[W], d[W], count;
  for (int l = 0; l < LANES; l++) count[l] = (u64)l + 1;
#pragma GCC unroll 4
  for (int w = 0; w < W; w++)
    a[w] = first[w] + count, b[w] = all(key.step), c[w] = all(key.layer), d[w] = vq{};
  u64 k0 = key.seed, k1 = key.purpose;
#pragma GCC unroll 10
  for (int r = 0; r < 10; r++) {
#pragma GCC unroll 4
    for (int w = 0; w < W; w++) {
      vq h0, l0, h1, l1;
      wide_product(a[w], M0, h0, l0);
      wide_product(c[w], M1, h1, l1);
      a[w] = xor3(h1, b[w], k0), b[w] = l1, c[w] = xor3(h0, d[w], k1), d[w] = l0;
    }
    k0 += W0, k1 += W1;
  }
#pragma GCC unroll 4
  for (int w = 0; w < W; w++) write_blocks(a[w], b[w], c[w], d[w], out + 4 * LANES * w);
}
#else
inline void philox_block(const Stream &key, u64 block, u64 *out) {
  u64 a = block + 1, b = key.step, c = key.layer, d = 0, k0 = key.seed, k1 = key.purpose;
  for (int r = 0; r < 10; r++) {
    unsigned __int128 m0 = (unsigned __int128)a * M0, m1 = (unsigned __int128)c * M1;
    a = (u64)(m1 >> 64) ^ b ^ k0, b = (u64)m1, c = (u64)(m0 >> 64) ^ d ^ k1, d = (u64)m0;
    k0 += W0, k1 += W1;
  }
  out[0] = a, out[1] = b, out[2] = c, out[3] = d;
}
template <int G> inline void philox_narrow(const Stream &key, const u64 *first, u64 *out) {
  for (u32 i = 0; i < 16 * G; i++) {
    u32 a = (u32)(2 * first[i / 16]) + i % 16, b = (u32)key.step, c = (u32)(key.step >> 32), d = (u32)(key.purpose << 16 | key.layer);
    u32 k0 = (u32)key.seed, k1 = (u32)(key.seed >> 32);
    for (int r = 0; r < 10; r++) {
      const u64 p0 = a * M0_32, p1 = c * M1_32;
      a = (u32)(p1 >> 32) ^ b ^ k0, b = (u32)p1, c = (u32)(p0 >> 32) ^ d ^ k1, d = (u32)p0;
      k0 += (u32)W0_32, k1 += (u32)W1_32;
    }
    out[2 * i] = a | (u64)b << 32, out[2 * i + 1] = c | (u64)d << 32;
  }
}
#endif

constexpr int GROUPS = 4;  // groups that are drawn side by side

// The numbers of `n` <= GROUPS groups, which begin at these blocks of 16 numbers; 32 words a group.
inline void draw(const Stream &key, const u64 *blocks, int n, u64 *out) {
  if (key.narrow) {
    int g = 0;
    if (LEVEL == 3)
      for (; g + 2 <= n; g += 2) philox_narrow<2>(key, blocks + g, out + 32 * g);
    for (; g < n; g++) philox_narrow<1>(key, blocks + g, out + 32 * g);
    return;
  }
#if LEVEL == 3
  if (n == 1) return philox<1>(key, blocks, out);
  if (n == 2) return philox<2>(key, blocks, out);
  u64 first[4] = {blocks[0], blocks[1], blocks[2], n > 3 ? blocks[3] : 0};
  philox<4>(key, first, out);
#elif LEVEL
  for (int g = 0; g < n; g++) {
    u64 first[2] = {blocks[g], blocks[g] + 4};
    philox<2>(key, first, out + 32 * g);
  }
#else
  for (int g = 0; g < n; g++)
    for (int b = 0; b < 8; b++) philox_block(key, blocks[g] + (u64)b, out + 32 * g + 4 * b);
#endif
}

}  // namespace
