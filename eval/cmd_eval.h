/* mundwerk eval: run tasks over snapshots, and report on them. */
#ifndef EVAL_CMD_EVAL_H
#define EVAL_CMD_EVAL_H

int cmd_eval(int argc, char **argv); /* returns the exit code */

#endif
