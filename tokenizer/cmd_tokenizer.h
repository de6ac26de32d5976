/*
 * `mundwerk tokenizer train | encode | decode | pack`.
 */
#ifndef TOKENIZER_CMD_TOKENIZER_H
#define TOKENIZER_CMD_TOKENIZER_H

int cmd_tokenizer(int argc, char **argv);

#endif
