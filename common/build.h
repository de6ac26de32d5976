/*
 * How this program was built, for the records that have to tell (a run's build.txt).
 */
#ifndef COMMON_BUILD_H
#define COMMON_BUILD_H

const char *build_version(void);  /* "0.1.0" */
const char *build_compiler(void); /* "gcc 12.2.0" */
const char *build_flags(void);    /* of all files; those of single instruction sets come on top */
const char *build_commit(void); /* of git, with "-dirty" for changed files; "unknown" outside one */

#endif
