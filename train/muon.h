/*
 * Muon's direction for one matrix (K. Jordan et al. 2024): the nearest semi-orthogonal matrix,
 * roughly. Five Newton-Schulz steps on X = G / |G|, with A = X Xᵀ,
 *
 *     X ← a X + (b A + c A²) X            a, b, c = 3.4445, -4.7750, 2.0315
 *
 * bring every singular value that is not tiny between 0.7 and 1.2. Products round their operands
 * to bf16 and add in fp32; X itself is kept in fp32.
 */
#ifndef TRAIN_MUON_H
#define TRAIN_MUON_H

#include <stddef.h>
#include <stdint.h>

/* Floats of scratch memory for one matrix. */
size_t muon_scratch(int64_t rows, int64_t cols);
/* scratch begins with G (rows, cols); returns where in it the direction (rows, cols) lies. The
 * same bits for any number of threads. A matrix of zeros gives zeros. */
float *muon_direction(float *scratch, int64_t rows, int64_t cols);

#endif
