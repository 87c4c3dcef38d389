"""The acceptance table: what must hold, and the tests that hold it.

| row | what breaks | what is expected |
|---|---|---|
| C | a configuration with typos, wrong values or missing keys | one line with the key, code 2 |
| D | data that are missing, broken or odd | counted, named, or refused in one line |
| T | training twice, on bad numbers, without a network | equal bits, finite weights |
| R | signals, kills, full disks, other architectures | a whole checkpoint, an exact resume |
| P | several processes, uneven, stopped or dead | the numbers of one, an end, the right name |
| G, E, X | sampling, metrics, secrets and foreign files | defined results, nothing run or leaked |
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
TABLE = {
    "C1 unknown key, group or typo": (
        "cli_mistake_is_reported_in_one_line cli_mistake_is_reported_quickly "
        "compose_names_mistakes hydra_mistake_is_one_line_and_exits_2 "
    ),
    "C2 wrong type or range": (
        "wrong_value_is_refused_before_data_or_model_are_built refused_values_name_the_path "
        "values_are_checked_before_the_command_is_imported "
    ),
    "C3 missing or deleted key": (
        "missing_mandatory_key_is_named key_deletion_is_refused "
        "cli_mistake_is_reported_in_one_line "
    ),
    "C4 every configuration is built on meta": (
        "every_experiment_is_built_on_meta_with_its_number_of_weights "
        "every_leaf_builds_both_stages experiments_match_published_numbers "
    ),
    "C6 saved configuration repeats the run": (
        "stored_configuration_repeats_the_run_bit_for_bit stored_configuration_is_the_one_that_ran "
    ),
    "D1 missing or empty data": (
        "missing_data_root_is_reported_in_one_line step_batches_refuse_indivisible_and_empty_data "
    ),
    "D2 broken images": (
        "broken_images_are_replaced_and_counted broken_file_beyond_the_limit_is_named "
    ),
    "D3 all images broken": (
        "data_set_of_broken_files_ends too_many_broken_files_end_training_in_one_line "
    ),
    "D4 formats and modes": "decode_reads_formats_and_modes transparent_pixels_show_the_background",
    "D7 masks": "unusable_mask_is_refused mask_of_another_size_is_refused missing_mask_is_named",
    "D8 captions": (
        "caption_decoding_accepts_any_bytes missing_captions_are_empty_and_unusual_ones_are_kept "
        "truncated_captions_are_counted_in_a_warning "
    ),
    "D10 workers change nothing": (
        "image_bits_do_not_depend_on_the_workers losses_do_not_depend_on_workers_or_resume "
    ),
    "T1 two identical runs": (
        "repeated_run_is_equal_bit_for_bit stored_configuration_repeats_the_run_bit_for_bit "
    ),
    "T2 numbers that are none": (
        "step_with_non_finite_gradients_is_skipped "
        "repeated_non_finite_steps_end_training_and_save_the_batch "
        "weights_that_are_not_finite_are_never_saved "
    ),
    "T4 exact number of steps": (
        "steps_are_batches_and_updates_of_both_players losses_are_logged_once_per_step "
        "plain_trainer_equals_the_command_line "
    ),
    "T5 frozen codec": (
        "codec_stays_frozen_during_diffusion_training codec_is_frozen_and_named_by_its_weight_hash "
    ),
    "T6 wandb without network or key": (
        "wandb_logs_offline_without_an_account wandb_online_without_a_key_is_refused "
        "wandb_server_that_does_not_answer_is_not_waited_for "
    ),
    "R1 resume within an epoch": (
        "interrupted_run_resumes_to_the_same_weights killed_run_resumes_to_the_same_weights "
    ),
    "R2 resume at an epoch's end": (
        "run_cut_at_an_epochs_end_resumes_to_the_same_bits "
        "step_batches_started_late_continue_the_same_stream "
    ),
    "R4 signals": (
        "signal_saves_and_the_same_command_resumes one_press_of_the_keys_is_one_interrupt "
        "signal_to_the_whole_group_saves interrupt_while_loaders_start_shows_no_traceback "
        "job_that_cannot_be_requeued_says_so_in_one_line "
    ),
    "R5 kills and full disks while saving": (
        "kill_in_a_write_leaves_whole_checkpoints_and_the_command_goes_on "
        "killed_writer_leaves_the_old_file_whole "
        "full_disk_is_reported_in_one_line_and_keeps_the_checkpoint "
        "run_with_a_damaged_checkpoint_is_not_restarted "
    ),
    "R8 resume of another model": (
        "checkpoint_of_another_architecture_is_refused_with_its_differences "
        "first_differences_are_told_with_names_and_shapes codec_of_another_latent_shape_is_refused "
        "resume_refuses_a_checkpoint_of_the_other_stage "
    ),
    "R9 resume without a checkpoint": (
        "stored_configuration_repeats_the_run_bit_for_bit "
        "missing_checkpoint_is_refused_before_anything_is_made damaged_checkpoint_is_reported "
    ),
    "P1 two processes equal one": (
        "two_processes_train_the_same_weights_as_one "
        "two_process_diffusion_loss_equals_one_process "
        "validation_mean_weighs_every_sample_alike "
        "validation_of_two_processes_with_uneven_counts_is_that_of_one "
    ),
    "P2 a process dies or hangs": (
        "dead_or_hanging_process_ends_the_job child_processes_end_with_their_launcher "
    ),
    "P5 multirun on two devices": "multirun_on_two_devices_keeps_its_runs_apart",
    "G1 sample twice": (
        "batches_of_one_and_of_four_share_noise_and_images sample_depends_only_on_seed_and_index "
    ),
    "G2 samples of the average": (
        "samples_use_the_ema_weights samples_that_cannot_be_asked_for_are_refused "
        "sample_mistake_is_reported_in_one_line "
        "image_that_is_not_finite_ends_sampling "
    ),
    "G3 names stay in their folder": (
        "member_names_are_never_paths_and_unknown_members_stay_closed "
        "run_names_cannot_leave_the_runs_folder each_sample_command_gets_its_own_folder "
    ),
    "E1 metrics of nothing": (
        "metric_of_nothing_or_of_no_numbers_is_refused frechet_world_needs_two_images_of_each "
        "reconstruction_of_nothing_or_of_no_numbers_is_refused digit_that_is_not_finite_is_refused "
        "image_that_is_not_finite_is_refused_by_its_number "
        "distance_of_no_more_images_than_features_warns "
        "card_warns_of_metrics_of_few_images_and_refuses_one "
        "metric_that_is_no_number_leaves_the_card_as_it_is "
        "evaluation_of_nothing_leaves_the_card_as_it_is judge_needs_a_scene_for_every_image "
    ),
    "X1 pickles run no code": "convert_does_not_run_code_in_a_pickle",
    "X4 secrets": "wandb_api_key_is_written_nowhere wandb_key_in_the_configuration_is_redacted",
    "loading processes": (
        "loader_survives_signals_that_are_meant_for_the_run_and_its_death_is_told "
        "small_shared_memory_is_told_in_one_line run_whose_loader_is_killed_ends_in_one_line "
    ),
    "file systems": (
        "file_system_without_locks_is_warned_of_once "
        "file_system_without_symbolic_links_keeps_the_latest_run_in_a_file "
        "run_on_a_file_system_without_locks_and_links unwritable_run_file_is_named "
        "lock_of_a_shared_folder_is_opened_by_a_second_member "
        "exported_weights_have_the_modes_of_the_umask "
    ),
    "models that do not fit": (
        "weights_that_are_not_finite_are_not_loaded "
        "published_weights_that_are_not_finite_are_not_imported "
        "discriminator_too_large_for_its_images_is_refused_before_data_are_read "
    ),
}


@pytest.fixture(scope="module")
def there() -> set[str]:
    """The names of all tests."""
    return {
        node.name.removeprefix("test_")
        for path in TESTS.rglob("test_*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


@pytest.mark.parametrize("row", TABLE)
def test_acceptance_row_has_its_tests(row: str, there: set[str]) -> None:
    assert set(TABLE[row].split()) - there == set()
