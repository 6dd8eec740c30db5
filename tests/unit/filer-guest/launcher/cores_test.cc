#include "filer-guest/launcher/cores.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace filer::guest {
namespace {

using testing::ElementsAre;

TEST(PlanCores, NothingIsPinnedOnSmallMachines) {
  EXPECT_FALSE(PlanCores({}, 1).has_value());
  EXPECT_FALSE(PlanCores({0, 1}, 1).has_value());
  EXPECT_FALSE(PlanCores({0, 1, 2}, 1).has_value());
  EXPECT_FALSE(PlanCores({0, 1, 2, 3}, 3).has_value());
}

TEST(PlanCores, ThePollerHasACoreOfItsOwnAndTheFirstIsLeft) {
  const auto plan = PlanCores({0, 1, 2, 3}, 2);
  ASSERT_TRUE(plan.has_value());
  EXPECT_THAT(plan->pollers, ElementsAre(1));
  EXPECT_THAT(plan->guest_cpus, ElementsAre(3, 2));
}

TEST(PlanCores, OnlyCoresThatWeMayUse) {
  const auto plan = PlanCores({8, 9, 12, 13, 20}, 1);
  ASSERT_TRUE(plan.has_value());
  EXPECT_THAT(plan->pollers, ElementsAre(13));
  EXPECT_THAT(plan->guest_cpus, ElementsAre(20));
}

TEST(PlanCores, EachPollerHasACoreOrNobodyHas) {
  const auto plan = PlanCores({0, 1, 2, 3, 4, 5}, 2, 3);
  ASSERT_TRUE(plan.has_value());
  EXPECT_THAT(plan->pollers, ElementsAre(3, 2, 1));
  EXPECT_THAT(plan->guest_cpus, ElementsAre(5, 4));
  EXPECT_FALSE(PlanCores({0, 1, 2, 3, 4}, 2, 3).has_value());
}

TEST(UsableCores, ThereIsAtLeastOne) { EXPECT_FALSE(UsableCores().empty()); }

}  // namespace
}  // namespace filer::guest
