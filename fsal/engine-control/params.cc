#include "fsal/engine-control/params.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/assert.h"

namespace filer::control {
namespace {

using Kind = ParamSpec::Kind;

std::string KindText(const ParamSpec& spec) {
  switch (spec.kind) {
    case Kind::kText:
      return fmt::format("a text of 1 to {} bytes", spec.max);
    case Kind::kCount:
      return fmt::format("a number from {} to {}", spec.min, spec.max);
    case Kind::kFlag:
      return "true or false";
  }
  return "";
}

bool IsSuch(const ParamSpec& spec, const Json& value) {
  switch (spec.kind) {
    case Kind::kText: {
      if (!value.is_string()) return false;
      const auto& text = value.get_ref<const std::string&>();
      return text.size() >= spec.min && text.size() <= spec.max &&
             text.find('\0') == std::string::npos;
    }
    case Kind::kCount: {
      // A number that is written without a sign; 1.0 and -1 are others.
      if (!value.is_number_unsigned()) return false;
      const auto count = value.get<std::uint64_t>();
      return count >= spec.min && count <= spec.max;
    }
    case Kind::kFlag:
      return value.is_boolean();
  }
  return false;
}

Error Bad(const std::string& method, const std::string& name, const std::string& why) {
  return Error(Errc::kInvalidArgument, fmt::format("{}: parameter {} {}", method, name, why));
}

std::string Names(const std::vector<ParamSpec>& specs) {
  std::string text;
  for (const ParamSpec& spec : specs) text += (text.empty() ? "" : ", ") + spec.name;
  return text.empty() ? "none" : text;
}

}  // namespace

ParamSpec RequiredText(std::string name, std::uint64_t bytes_max) {
  return {std::move(name), Kind::kText, true, 1, bytes_max};
}
ParamSpec OptionalText(std::string name, std::uint64_t bytes_max) {
  return {std::move(name), Kind::kText, false, 1, bytes_max};
}
ParamSpec RequiredCount(std::string name, std::uint64_t min, std::uint64_t max) {
  return {std::move(name), Kind::kCount, true, min, max};
}
ParamSpec OptionalCount(std::string name, std::uint64_t min, std::uint64_t max) {
  return {std::move(name), Kind::kCount, false, min, max};
}
ParamSpec OptionalFlag(std::string name) { return {std::move(name), Kind::kFlag, false, 0, 1}; }

Result<Params> Params::Check(const std::string& method, const std::vector<ParamSpec>& specs,
                             const Json& json) {
  FILER_ASSERT(json.is_object());
  for (const ParamSpec& spec : specs) {
    const auto found = json.find(spec.name);
    if (found == json.end()) {
      if (spec.is_required) return Bad(method, spec.name, "is missing: " + KindText(spec));
    } else if (!IsSuch(spec, *found)) {
      return Bad(method, spec.name, "is not " + KindText(spec));
    }
  }
  for (const auto& [name, value] : json.items()) {
    const bool is_known =
        std::any_of(specs.begin(), specs.end(),
                    [&name = name](const ParamSpec& spec) { return spec.name == name; });
    if (!is_known) {
      return Bad(method, name.substr(0, 64), "is unknown; there is " + Names(specs));
    }
  }
  return Params(specs, json);
}

const Json* Params::Find(const std::string& name, Kind kind) const {
  const auto spec = std::find_if(specs_->begin(), specs_->end(),
                                 [&name](const ParamSpec& row) { return row.name == name; });
  FILER_ASSERT(spec != specs_->end() && spec->kind == kind);
  const auto found = json_.find(name);
  return found == json_.end() ? nullptr : &*found;
}

bool Params::Has(const std::string& name) const { return json_.contains(name); }

std::string Params::Text(const std::string& name, const std::string& fallback) const {
  const Json* value = Find(name, Kind::kText);
  return value == nullptr ? fallback : value->get<std::string>();
}

std::uint64_t Params::Count(const std::string& name, std::uint64_t fallback) const {
  const Json* value = Find(name, Kind::kCount);
  return value == nullptr ? fallback : value->get<std::uint64_t>();
}

bool Params::Flag(const std::string& name) const {
  const Json* value = Find(name, Kind::kFlag);
  return value != nullptr && value->get<bool>();
}

Json ToJson(const ParamSpec& spec) {
  Json json = {{"name", spec.name}, {"required", spec.is_required}};
  switch (spec.kind) {
    case Kind::kText:
      json["type"] = "text";
      json["bytes_max"] = spec.max;
      break;
    case Kind::kCount:
      json["type"] = "count";
      json["min"] = spec.min;
      json["max"] = spec.max;
      break;
    case Kind::kFlag:
      json["type"] = "flag";
      break;
  }
  return json;
}

}  // namespace filer::control
