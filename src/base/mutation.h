// LEAP_MUTATION(name): a place where the code goes wrong on purpose, to prove that the simulation notices
// (tests/sim/mutation_test.cc says what each does and how soon it is found).
//
//   if (!intact && !LEAP_MUTATION(digest_ignored)) return fail(...);
//
// A constant false, and nothing in the binary, except in files that are compiled a second time with LEAP_MUTATIONS for
// the mutation test: there it is true while the test has chosen this one. In .cc files only.
#pragma once

#ifdef LEAP_MUTATIONS
#include <string_view>
namespace leap {
[[nodiscard]] bool mutation_chosen(std::string_view name);  // the test's
}
#define LEAP_MUTATION(name) ::leap::mutation_chosen(#name)
#else
#define LEAP_MUTATION(name) false
#endif
