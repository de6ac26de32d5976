/* Owns what the Makefile tells the program about its own making. */
#include "common/build.h"

#ifndef MUNDWERK_FLAGS
#define MUNDWERK_FLAGS "unknown"
#endif
#ifndef MUNDWERK_COMMIT
#define MUNDWERK_COMMIT "unknown"
#endif

const char *build_version(void)
{
    return MUNDWERK_VERSION;
}

const char *build_compiler(void)
{
#ifdef __clang__
    return "clang " __clang_version__;
#else
    return "gcc " __VERSION__;
#endif
}

const char *build_flags(void)
{
    return MUNDWERK_FLAGS;
}

const char *build_commit(void)
{
    return MUNDWERK_COMMIT;
}
