#include "products.h"

#include <cstdlib>

#if !defined(_WIN32)
#include <dlfcn.h>
#endif

namespace pixelwise {
namespace {

struct OpenBlas {
  void (*set_threads)(int) = nullptr;
  int (*threads)() = nullptr;

  // Of the OpenBLAS that libtorch uses; nothing where it uses another library.
  OpenBlas() {
#if !defined(_WIN32)
    if (void* library = dlopen("libopenblas.so.0", RTLD_LAZY | RTLD_NOLOAD)) {
      set_threads = reinterpret_cast<void (*)(int)>(dlsym(library, "openblas_set_num_threads"));
      threads = reinterpret_cast<int (*)()>(dlsym(library, "openblas_get_num_threads"));
    }
#endif
  }

  bool is_there() const { return set_threads != nullptr && threads != nullptr; }
};

const OpenBlas& openblas() {
  static const OpenBlas found;
  return found;
}

}  // namespace

SingleThreadedBlas::SingleThreadedBlas() : before_(openblas().is_there() ? openblas().threads() : 1) {
  if (before_ > 1) openblas().set_threads(1);
}

SingleThreadedBlas::~SingleThreadedBlas() {
  if (before_ > 1) openblas().set_threads(before_);
}

void set_blas_threads(int count) {
  if (openblas().is_there() && std::getenv("OPENBLAS_NUM_THREADS") == nullptr) openblas().set_threads(count);
}

}  // namespace pixelwise
