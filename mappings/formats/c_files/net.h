/* @about@
 *
 * Whole numbers alone: no float, no allocation, no library. @prefix@_predict takes input codes, row-major
 * (height, width, channels); @prefix@_input_codes has the code of each grey level.
 */
#ifndef @PREFIX@_H
#define @PREFIX@_H

#include <stdint.h>

#define @PREFIX@_INPUTS @inputs@
#define @PREFIX@_CLASSES @classes@
#define @PREFIX@_CONSTANT_BYTES @constant_bytes@ /* tables that stay in flash */
#define @PREFIX@_RAM_BYTES @ram_bytes@ /* buffers, and the state where it learns */

extern const int8_t @prefix@_input_codes[256];

/* Logits of one sample, in units of Z. */
void @prefix@_predict(const int8_t *codes, int32_t *logits);
/*@learn*/
/* What learning changes. Exponents are those of Shift = 2^m, -1 where none is known yet. */
struct @prefix@_held {
    int32_t exponent;
    uint32_t below;
};
struct @prefix@_state {
    uint64_t step;
    struct @prefix@_held error[@layers@], gradient[@layers@];
    int8_t stored[@weights@]; /* of each layer, row-major (n_in, n_out), one layer after the other */
};
extern struct @prefix@_state @prefix@_state;

/* Learn one sample with eta = 2^log2_eta, -16 .. 16; its label is below @PREFIX@_CLASSES. Gives the logits from
 * before the update. */
void @prefix@_learn(const int8_t *codes, uint32_t label, int32_t log2_eta, int32_t *logits);
/*learn@*/
#endif
