/* The command `train`; returns the exit code. */
#ifndef TRAIN_CMD_TRAIN_H
#define TRAIN_CMD_TRAIN_H

int cmd_train(int argc, char **argv);

#endif
