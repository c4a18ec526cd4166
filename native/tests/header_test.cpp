#include "test.hpp"

extern "C" int call_from_c(void);

TEST(the_header_compiles_as_c) { CHECK(call_from_c(), "a call from C failed"); }
