"""Profiles: TOML descriptions of a run, read and checked before a run starts.

Knows keys, types, defaults, positions and remedies. Opens no model, no data and no run directory.
"""

from __future__ import annotations

from sf_tui.errors import did_you_mean, nearest_name
from sf_tui.profile.action_schema import Action, Rule
from sf_tui.profile.init import STARTER_SCENE, new_profile
from sf_tui.profile.load import find_profile, load_profile, parse_profile
from sf_tui.profile.problems import ProfileProblemsError, problems_in
from sf_tui.profile.recovery_schema import DiagnoseSettings, RecoverSettings
from sf_tui.profile.schema import (
    BiographySettings,
    CheckpointSettings,
    CostSettings,
    GuardSettings,
    ModelSettings,
    ProbeSettings,
    Profile,
    StageSpec,
    TaskSettings,
    WindowSettings,
)
from sf_tui.profile.short_profile import short_profile
from sf_tui.profile.sources import builtin_profiles, starter_directory
from sf_tui.profile.train_schema import (
    NeighborKinds,
    NeighborSettings,
    ReplayStageSettings,
    TrainSettings,
)
from sf_tui.profile.write import dump_profile
from sf_tui.vocabulary.strategies import AnchorSettings, FreezeSettings

__all__ = [
    "STARTER_SCENE",
    "Action",
    "AnchorSettings",
    "BiographySettings",
    "CheckpointSettings",
    "CostSettings",
    "DiagnoseSettings",
    "FreezeSettings",
    "GuardSettings",
    "ModelSettings",
    "NeighborKinds",
    "NeighborSettings",
    "ProbeSettings",
    "Profile",
    "ProfileProblemsError",
    "RecoverSettings",
    "ReplayStageSettings",
    "Rule",
    "StageSpec",
    "TaskSettings",
    "TrainSettings",
    "WindowSettings",
    "builtin_profiles",
    "did_you_mean",
    "dump_profile",
    "find_profile",
    "load_profile",
    "nearest_name",
    "new_profile",
    "parse_profile",
    "problems_in",
    "short_profile",
    "starter_directory",
]
