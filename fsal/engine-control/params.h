// params.h: the parameters of a control method: declared in its row of the table, checked in one
// place, then read by name. What is missing, unknown, of another type or out of bounds is an error
// that names the method and the parameter; a method never sees it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/json_rpc.h"
#include "base/result.h"

namespace filer::control {

struct ParamSpec {
  enum class Kind : std::uint8_t { kText, kCount, kFlag };
  std::string name;
  Kind kind = Kind::kText;
  bool is_required = false;
  std::uint64_t min = 0;  // of a count; the bytes of a text
  std::uint64_t max = 0;  // included
};

// Text is never empty and never holds a NUL.
ParamSpec RequiredText(std::string name, std::uint64_t bytes_max);
ParamSpec OptionalText(std::string name, std::uint64_t bytes_max);
ParamSpec RequiredCount(std::string name, std::uint64_t min, std::uint64_t max);
ParamSpec OptionalCount(std::string name, std::uint64_t min, std::uint64_t max);
ParamSpec OptionalFlag(std::string name);

class Params {
 public:
  // Errors: kInvalidArgument. `specs` must outlive the value.
  static Result<Params> Check(const std::string& method, const std::vector<ParamSpec>& specs,
                              const Json& json);

  // Only names of the row may be asked for, as what they are there.
  bool Has(const std::string& name) const;
  std::string Text(const std::string& name, const std::string& fallback = "") const;
  std::uint64_t Count(const std::string& name, std::uint64_t fallback = 0) const;
  bool Flag(const std::string& name) const;  // false when it is not given

 private:
  Params(const std::vector<ParamSpec>& specs, Json json) : specs_(&specs), json_(std::move(json)) {}
  const Json* Find(const std::string& name, ParamSpec::Kind kind) const;

  const std::vector<ParamSpec>* specs_;
  Json json_;
};

// For the method `methods`.
Json ToJson(const ParamSpec& spec);

}  // namespace filer::control
