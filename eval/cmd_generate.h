/* mundwerk generate: continue a text with the model of a checkpoint folder. */
#ifndef EVAL_CMD_GENERATE_H
#define EVAL_CMD_GENERATE_H

int cmd_generate(int argc, char **argv); /* returns the exit code */

#endif
