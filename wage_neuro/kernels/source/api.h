// What the library shows to the outside: plain C, whole numbers, no Python. See native.cpp.
#pragma once
#include <stdint.h>

typedef uint8_t u8;
typedef int8_t i8;
typedef int16_t i16;
typedef uint16_t u16;
typedef int32_t i32;
typedef uint32_t u32;
typedef int64_t i64;
typedef uint64_t u64;

// One WAGE layer, as `wage_neuro.layers.Layer`; a dense layer is an image of one pixel. Bounds hold whatever the data.
struct Spec {
  i64 index, is_last, conv, in_h, in_w, in_c, kernel, stride, top, left, z_h, z_w, n_out, pool_size, pool_step, pool_top,
      pool_left, out_h,
      out_w, z_shift, k_W, k_A, k_G, k_E, signed_in, log2_target, stored_max, step_max, spread_max, z_bound, d_bound,
      arriving_bound, g_bound, error_exponent, log2_gamma, gradient_exponent, normalised, shift_max, foreign;
};

// `wage_neuro.rules.Rules`; a foreign layer is left to the hook. `samples` of the batch are here, from its row `first`
// on; an update has `total`; a team has other processes, which learn the others.
struct RuleSpec {
  i64 samples, total, first, team, held, coincidence, loss, margin, pipelined, feedback, new_shift, recalled, metaplasticity,
      consolidation, sharpness, momentum, generator, slots;  // slots: 0, as many as the network keeps in flight
};

enum { SSE, ONE_SIDED, SOFTMAX };          // loss
enum { TRANSPOSED, RANDOM, DIRECT };       // feedback
enum { PHILOX_4X64, PHILOX_4X32 };         // generator
enum { NONE = -1, FROZEN = -1000000 };     // an exponent that is not known (or not fixed); log2_eta of a frozen layer

// What the caller is told, of a step that it watches or of a foreign layer; returns whether an error goes on.
// In a team, of the peak of a layer's errors (in `detail`), and returns all members' largest; of the sums of its
// gradient (where they are, and in `slot` bytes of one); and of the end of the step, when `move` and `take` follow.
enum Event { FORWARD, ARRIVES, ERROR, UPDATED, FOREIGN_FORWARD, FOREIGN_LEARN, PEAK, SUMS, TOGETHER };
typedef i64 (*Hook)(i64 event, i64 layer, i64 slot, i64 step, i64 detail);

enum What { CODES_IN, ERRORS, CODES_E, WINNERS, LOGITS, PRE, POST };  // arrays that go in and out, row-major

struct Call {                  // one call of `train`
  const u8 *images;            // (n, inputs)
  const i64 *labels;           // (n,)
  const i64 *former;           // (n, classes) or null
  i64 n;
  const i64 *log2_eta, *hold;  // one a layer
  u64 step;
  i64 *logits;                 // (n, classes)
  i64 watch;                   // every so many steps, 0: none
};

struct Api {
  const char *name;
  i64 vector_bytes;
  void *(*create)(i64 layers, const Spec *, const RuleSpec *, u64 seed, i64 threads, const i16 *input_codes,
                  const i64 *exp_coarse, const i64 *exp_fine, Hook);
  void (*destroy)(void *);
  const char *(*path)(void *, i64 layer);
  void (*set_weights)(void *, i64 layer, const i16 *S, const u16 *importance, const u16 *counted, const i16 *momentum);
  void (*get_weights)(void *, i64 layer, i16 *S, u16 *importance, u16 *counted, i16 *momentum);
  void (*set_norm)(void *, i64 layer, const i64 *norm);  // (3, channels), as wage_neuro.normal
  void (*get_norm)(void *, i64 layer, i64 *norm);
  void (*set_feedback)(void *, i64 layer, const i8 *B);
  void (*set_held)(void *, i64 layer, const i64 *four);
  void (*get_held)(void *, i64 layer, i64 *four);
  void (*get)(void *, i64 layer, i64 slot, i64 what, i64 n, i64 *out);
  void (*set)(void *, i64 layer, i64 slot, i64 what, i64 n, const i64 *in);
  // One layer at work by itself: its neighbours are foreign, and the caller plays them. Codes and errors are row-major.
  void (*forward)(void *, i64 layer, i64 slot, i64 n, const i16 *codes, void *out);  // i16 codes, or i64 products
  i64 (*error)(void *, i64 layer, i64 slot, u64 step, i64 log2_eta, i64 hold, const i32 *message, i32 *sent);
  void (*update)(void *, i64 layer, i64 slot, u64 step);  // from what `error` has left; only if it returned 1
  void (*set_update)(void *, i64 layer, i64 coincidence, i64 step_max);
  void (*train)(void *, const Call *);
  // update weights first .. first + n of a layer from their gradients; `codes` gets steps or stored weights
  void (*move)(void *, i64 layer, i64 first, i64 n, const i64 *G, i64 peak, u64 step, i16 *codes);
  // the same for all other weights, from their codes of 1 or 2 bytes
  void (*take)(void *, i64 layer, i64 first, i64 n, const void *codes, i64 bytes);
  void (*predict)(void *, const u8 *images, i64 n, i64 *logits, i64 watched);
  // n numbers of `bytes` as `width` bytes each; and the sums of as many from each of some ranks
  void (*pack)(const void *from, i64 bytes, i64 n, i64 width, u8 *to);
  void (*add_up)(const u8 *from, i64 ranks, i64 n, i64 width, i64 *to);
  i64 (*peak)(i64 rounds);
  i64 (*log2_round)(u64 x);
  void (*philox)(u64 seed, u64 purpose, u64 layer, u64 step, i64 generator, u64 first_block, i64 groups, u64 *words);
};

// Threads of this process: `run(context, task, thread)` for every task, on up to `threads` of them.
extern "C" void wage_parallel(i64 tasks, i64 threads, void (*run)(void *, i64, i64), void *context);
