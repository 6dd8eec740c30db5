// What a line means, and what is answered to it.
#include "base/json_rpc.h"

#include "base/json_nesting.h"

namespace filer {
namespace {

constexpr int kParseError = -32700;
constexpr int kInvalidRequest = -32600;
constexpr int kMethodNotFound = -32601;
constexpr int kHandlerFailed = -32000;

std::string ToLine(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string Failure(const Json& id, int code, Errc cause, const std::string& message) {
  return ToLine(
      {{"jsonrpc", "2.0"},
       {"id", id},
       {"error", {{"code", code}, {"message", message}, {"data", {{"cause", ErrcText(cause)}}}}}});
}

std::string InternalError() {
  return R"({"jsonrpc":"2.0","id":null,"error":{"code":-32603,"message":"internal error"}})";
}

Result<Json> Handled(const RpcRequest& request) try {
  return request.method->handler(request.params);
} catch (const std::exception& exception) {
  return Error(Errc::kSystem, std::string("internal error: ") + exception.what());
}

RpcRequest Refusal(std::string line) {
  RpcRequest request;
  request.refusal = std::move(line);
  return request;
}

}  // namespace

RpcMethod RpcWaiting(RpcHandler handler) {
  RpcMethod method(std::move(handler));
  method.may_wait = true;
  return method;
}

RpcRequest RpcParse(const RpcMethods& methods, const std::string& line) noexcept try {
  constexpr Errc kBad = Errc::kInvalidArgument;
  if (line.size() > kRpcLineBytesMax || NestsTooDeep(line)) {
    return Refusal(Failure(nullptr, kInvalidRequest, Errc::kTooBig, "request too large"));
  }
  const Json json = Json::parse(line, nullptr, false);
  if (json.is_discarded()) return Refusal(Failure(nullptr, kParseError, kBad, "not JSON"));
  if (!json.is_object() || !json.contains("method") || !json["method"].is_string()) {
    return Refusal(Failure(nullptr, kInvalidRequest, kBad, "no method"));
  }
  RpcRequest request;
  request.id = json.value("id", Json());
  request.params = json.value("params", Json::object());
  if (!request.params.is_object()) {
    return Refusal(Failure(request.id, kInvalidRequest, kBad, "params must be an object"));
  }
  const std::string name = json["method"].get<std::string>();
  const auto method = methods.find(name);
  if (method == methods.end()) {
    return Refusal(
        Failure(request.id, kMethodNotFound, Errc::kNotSupported, name + ": no such method"));
  }
  request.method = &method->second;
  return request;
} catch (const std::exception&) {
  return Refusal(InternalError());
}

std::string RpcRun(const RpcRequest& request) noexcept try {
  if (request.method == nullptr) return request.refusal;
  Result<Json> result = Handled(request);
  if (request.id.is_null()) return {};
  if (!result) return RpcFailure(request, result.error());
  std::string line = ToLine({{"jsonrpc", "2.0"}, {"id", request.id}, {"result", result.value()}});
  if (line.size() < kRpcLineBytesMax) return line;
  return Failure(request.id, kHandlerFailed, Errc::kTooBig, "the answer is too long");
} catch (const std::exception&) {
  return InternalError();
}

std::string RpcFailure(const RpcRequest& request, const Error& error) noexcept try {
  if (request.id.is_null()) return {};
  return Failure(request.id, kHandlerFailed, error.code(), error.message());
} catch (const std::exception&) {
  return InternalError();
}

std::string RpcDispatch(const RpcMethods& methods, const std::string& line) noexcept {
  return RpcRun(RpcParse(methods, line));
}

}  // namespace filer
