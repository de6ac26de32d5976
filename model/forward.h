/* What backward.c takes from forward.c. */
#ifndef MODEL_FORWARD_H
#define MODEL_FORWARD_H

#include "model/workspace.h"

/* Computes again what the options say a layer does not keep. Changes w->x. */
void layer_again(const struct model *m, struct workspace *w, int64_t layer);

#endif
