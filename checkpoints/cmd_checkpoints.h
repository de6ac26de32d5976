/* `mundwerk checkpoints list | verify | prune`; argv[0] is "checkpoints". Returns the exit code. */
#ifndef CHECKPOINTS_CMD_CHECKPOINTS_H
#define CHECKPOINTS_CMD_CHECKPOINTS_H

int cmd_checkpoints(int argc, char **argv);

#endif
