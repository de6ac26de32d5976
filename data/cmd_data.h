/* `mundwerk data …`: raw web text to clean documents. */
#ifndef DATA_CMD_DATA_H
#define DATA_CMD_DATA_H

int cmd_data(int argc, char **argv);

#endif
