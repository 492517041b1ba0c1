// Builds jpeg.node: ordinary JPEGs by libjpeg-turbo, without libtorch, for the threads that load images. Bytes equal PIL's.
#include <napi.h>
#include <turbojpeg.h>

#include <memory>

namespace {

struct Close {
  void operator()(void* handle) const { tjDestroy(handle); }
};

// (bytes, most pixels) -> { width, height, data: Uint8Array [height, width, 3] }; null for what is no JPEG, has another kind of colours
// (CMYK), is damaged in any way or too large: whoever asks has another way, and words, for those.
Napi::Value decode(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (!info[0].IsTypedArray() || !info[1].IsNumber()) throw Napi::TypeError::New(env, "decode(bytes, most pixels)");
  const auto bytes = info[0].As<Napi::TypedArray>();
  const auto* source = static_cast<const unsigned char*>(bytes.ArrayBuffer().Data()) + bytes.ByteOffset();
  const auto size = static_cast<unsigned long>(bytes.ByteLength());

  const std::unique_ptr<void, Close> decoder(tjInitDecompress());
  int width = 0, height = 0, subsampling, colorspace = -1;
  if (!decoder || tjDecompressHeader3(decoder.get(), source, size, &width, &height, &subsampling, &colorspace) != 0) return env.Null();
  if (width < 1 || height < 1) return env.Null();  // it was cut off before its picture, which the line above does not mind
  if (colorspace != TJCS_YCbCr && colorspace != TJCS_GRAY && colorspace != TJCS_RGB) return env.Null();
  const double pixels = static_cast<double>(width) * height;
  if (pixels > info[1].As<Napi::Number>().DoubleValue()) return env.Null();

  auto data = Napi::Uint8Array::New(env, static_cast<size_t>(3 * pixels));
  // Of scans, each of which costs as much as a picture, a few bytes can ask for thousands.
  constexpr int kFlags = TJFLAG_ACCURATEDCT | TJFLAG_STOPONWARNING | TJFLAG_LIMITSCANS;
  if (tjDecompress2(decoder.get(), source, size, data.Data(), width, 0, height, TJPF_RGB, kFlags) != 0) return env.Null();
  auto result = Napi::Object::New(env);
  result["width"] = width;
  result["height"] = height;
  result["data"] = data;
  return result;
}

Napi::Object initialize(Napi::Env env, Napi::Object exports) {
  exports["decode"] = Napi::Function::New(env, decode, "decode");
  return exports;
}

}  // namespace

NODE_API_MODULE(jpeg, initialize)
