"""What TFX's Tuner calls, by import path: transformed examples in, a search out.

The Tuner reloads this module: it holds functions and constants only.
"""

from tfx.components.trainer.fn_args_utils import FnArgs
from tfx.components.tuner.component import TunerFnResult

from components.trainer.settings import TrainerSettings
from components.tuner.settings import TunerSettings
from components.tuner.trial_tuner import TrialTuner


def tuner_fn(fn_args: FnArgs) -> TunerFnResult:
    """Makes the search for the Trainer's best settings.

    Args:
        fn_args: TFX's. `custom_config` holds `tuner`, the dump of `TunerSettings`, and all that the Trainer's holds.
            `train_files` fit the weights of each trial, and `eval_files` judge it; no other split is read.
    """
    config = fn_args.custom_config
    settings = TrainerSettings.model_validate(config["trainer"])
    return TunerFnResult(TrialTuner(settings, TunerSettings.model_validate(config["tuner"]), fn_args), {})
