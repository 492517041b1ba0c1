// What libtorch does when: each operator, and each step of autograd, with its time, thread and arguments' shapes.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace pixelwise {

struct Profile {
  struct Slice {
    uint32_t name;    // in `names`
    uint32_t shapes;  // in `shapes`
    uint32_t thread;
    bool is_backward;   // a node of autograd; else an operator
    int64_t sequence;   // the same number for an operator and the node that is its derivative; -1: none
    int64_t begin, end; // nanoseconds of the clock that Node's process.hrtime() shows
  };
  std::vector<Slice> slices;
  std::vector<std::string> names, shapes;
  uint32_t thread = 0;  // that began the profile
};

// Once begun, slices of all threads are collected until the end. @throws std::invalid_argument when there is one already
void begin_profile();
size_t profiled_slices();
Profile end_profile();

}  // namespace pixelwise
