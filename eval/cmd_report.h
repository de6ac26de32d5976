/* `mundwerk eval report`, a row of the eval command's table. */
#ifndef EVAL_CMD_REPORT_H
#define EVAL_CMD_REPORT_H

int cmd_eval_report(int argc, char **argv); /* returns the exit code */

#endif
