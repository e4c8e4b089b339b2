"""The table of SimpleTuner's settings: each key that a training config may hold, and the values that it takes.

Facts only: names, kinds, bounds and words of SimpleTuner 4.10's command line, and of the 3.x options that its
documentation still names. Source: SimpleTuner docs, OPTIONS.md; names and words also as its parser lists them.
What people may not set here, although SimpleTuner has it, stands in `NOT_ALLOWED`.
"""

import re
from dataclasses import dataclass
from typing import Literal

Kind = Literal["flag", "whole", "number", "word", "words", "text", "text or number", "flag or text", "object", "list", "anything"]


@dataclass(frozen=True)
class Setting:
    """What one key takes. `low` and `high` are included; `words` are all that a word may be."""

    kind: Kind
    low: float | None = None
    high: float | None = None
    words: tuple[str, ...] = ()


def _each(setting: Setting, names: str) -> dict[str, Setting]:
    return dict.fromkeys(names.split(), setting)


def _words(**choices: str) -> dict[str, Setting]:
    return {name: Setting("word", words=tuple(words.split())) for name, words in choices.items()}


_FAMILIES = """
    ace_step anima auraflow boogu_image bria chroma cosmos cosmos2image cosmos3 deepfloyd ernie flux flux2 flux3_image heartmula hidream
    hunyuanvideo ideogram infinitetalk kandinsky5-image kandinsky5-video kandinsky5_image kandinsky5_video kolors krea2 longcat_image
    longcat_video ltxvideo ltxvideo2 lumina2 mageflow minimaxh3 minimaxmusic moss_image omnigen pixart pixart_sigma qwen_image sana
    sanavideo sd1x sd2x sd3 sdxl stable_cascade wan wan_s2v z-image z_image z_image_omni zlab_i1
"""

_OPTIMIZERS = """
    adamw_bf16 adamw_schedulefree adamw_schedulefree+aggressive adamw_schedulefree+no_kahan muon prodigy soap
    ao-adamfp8 ao-adamw4bit ao-adamw8bit ao-adamwfp8
    bnb-adagrad bnb-adagrad8bit bnb-adam bnb-adam8bit bnb-adamw bnb-adamw-paged bnb-adamw8bit bnb-adamw8bit-paged
    bnb-ademamix bnb-ademamix-paged bnb-ademamix8bit bnb-ademamix8bit-paged bnb-lion bnb-lion-paged bnb-lion8bit bnb-lion8bit-paged
    optimi-adam optimi-adamw optimi-adan optimi-lion optimi-radam optimi-ranger optimi-sgd optimi-stableadamw
    sdnq-adafactor sdnq-adamw sdnq-adamw+no_quant sdnq-came sdnq-lion sdnq-muon sdnq-muon+quantized_matmul
    torch-adadelta torch-adafactor torch-adagrad torch-adam torch-adamax torch-adamw torch-asgd torch-nadam torch-radam torch-rmsprop
    torch-sgd torch-sparseadam
"""

_PRECISIONS = """
    no_change int8-quanto int4-quanto int2-quanto fp8-quanto fp8uz-quanto
    int8-torchao int8dq-torchao int8dq-int4-torchao int4-torchao fp8-torchao fp8wo-torchao fp8-int4-torchao
    int16-sdnq int8-sdnq int6-sdnq int5-sdnq uint16-sdnq uint8-sdnq uint5-sdnq uint4-sdnq uint3-sdnq uint2-sdnq fp16-sdnq fp8-sdnq
    nf4-bnb fp8-native fp8-transformerengine
"""

_SCHEDULERS = "linear sine cosine cosine_with_restarts cosine_with_warmup polynomial constant constant_with_warmup"

_ATTENTION = """
    diffusers xformers sla sageattention sageattention-int8-fp16-triton sageattention-int8-fp16-cuda sageattention-int8-fp8-cuda
    flash-attn flash-attn-hub flash-attn-2 flash-attn-varlen-hub flash-attn-3 flash-attn-3-hub flash-attn-3-varlen flash-attn-3-varlen-hub
    flash-attn-4-hub flex kohaku-fa kohaku-fa-auto metal-flash-attention metal-flash-attention-int8 metal-flash-attention-int4
    native cudnn native-efficient native-flash native-math native-npu native-xla
"""

_FLAGS = """
    allow_dataset_oversubscription aspect_bucket_disable_rebuild checkpointing_use_tempdir compress_disk_cache control controlnet
    dataloader_prefetch debug_aspect_buckets debug_dataset_loader delete_invalid_checkpoints delete_model_after_load
    delete_problematic_images delete_unwanted_images diff2flow_enabled diff2flow_loss disable_assistant_lora disable_benchmark
    disable_bucket_pruning disable_multiline_split disable_segmented_timestep_sampling disable_tf32 enable_chunked_feed_forward
    enable_multiprocessing enable_watermark eval_dataset_pooling eval_loss_disable find_unused_parameters fully_unload_text_encoder
    fuse_optimizer fuse_qkv_projections fused_qkv_projections i_know_what_i_am_doing ignore_final_epochs ignore_missing_files
    keep_vae_loaded lr_scale lr_scale_sqrt lyrics_embedder_train mixflow_enabled offload_during_save offload_during_startup offset_noise
    only_instance_prompt optimizer_offload_gradients optimizer_release_gradients override_dataset_config prepend_instance_prompt
    preserve_data_backend_cache print_filenames print_sampler_statistics quantize_activations refiner_training
    refiner_training_invert_schedule rescale_betas_zero_snr same_network save_text_encoder scheduled_sampling_reflexflow
    seed_for_each_device set_grads_to_none slider_lora_target strict_epoch_limit text_cache_disable text_cache_ondemand
    text_embed_full_cache train_text_encoder trust_remote_code unet_attention_slice use_dora use_ema use_soft_min_snr
    ema_cpu_only ema_foreach_disable
    gradient_checkpointing gradient_checkpointing_offload_attention gradient_checkpointing_offload_prefetch
    ramtorch ramtorch_controlnet ramtorch_disable_extensions ramtorch_disable_sync_hooks ramtorch_text_encoder ramtorch_vae
    enable_group_offload group_offload_text_encoder group_offload_use_stream group_offload_vae
    dynamo_cache_export_after_first_step dynamo_dynamic dynamo_fullgraph dynamo_use_regional_compilation
    fsdp_activation_checkpointing fsdp_cpu_offload fsdp_cpu_ram_efficient_loading fsdp_enable fsdp_limit_all_gathers
    fsdp_reshard_after_forward
    vae_cache_disable vae_cache_ondemand vae_cache_preprocess vae_enable_patch_conv vae_enable_slicing vae_enable_temporal_roll
    vae_enable_tiling
    validation_audio_only validation_disable validation_disable_unconditional validation_on_startup validation_preview
    validation_randomize validation_torch_compile validation_using_datasets
    flow_schedule_auto_shift flow_use_beta_schedule flow_use_uniform_schedule
    sdnq_dequantize_fp32 sdnq_use_hadamard sdnq_use_quantized_matmul sdnq_use_static_quantization sdnq_use_stochastic_rounding sdnq_use_svd
    crepa_drop_vae_encoder crepa_enabled crepa_normalize_by_frames crepa_normalize_neighbour_sum crepa_self_flow crepa_spatial_align
    crepa_use_backbone_features crepa_use_tae internal_guidance_enabled irepa_enabled layersync_enabled nextlat_enabled twinflow_enabled
    urepa_enabled urepa_use_tae xm_enabled
    delete_nsfw_images enable_nsfw_check
    model_card_private model_card_safe_for_work push_to_hub_background
    flux3_prompt_upsample flux_attention_masked_training flux_fast_schedule hidream_use_load_balancing_loss ideogram_auto_json
    ideogram_fp8_base_upcast ideogram_load_unconditional_transformer ideogram_prompt_upsample ideogram_uncond_ramtorch
    ideogram_validation krea2_reference_latents ltx_protect_first_frame minimax_h3_sparse_share_heads moss_image_auto_json
    moss_image_prompt_upsample sdxl_refiner_uses_full_range wan_force_2_1_time_embedding wan_validation_load_other_stage
"""

_COUNTS = """
    accelerator_cache_clear_interval checkpointing_rolling_steps checkpoints_rolling_total_limit checkpoints_total_limit save_total_limit
    crepa_adjacent_distance crepa_block_index crepa_cutoff_step crepa_decay_steps crepa_teacher_block_index crepa_warmup_steps
    dataloader_prefetch_device_threshold_mb deepfloyd_validation_stage3_noise_level ema_warmup_steps freeze_encoder_after
    freeze_encoder_before gradient_checkpointing_offload_pin_memory_max_buckets init_lora_step input_perturbation_steps
    internal_guidance_block_index layersync_student_block layersync_teacher_block lr_warmup_steps machine_rank max_grounding_entities
    max_train_steps minimax_h3_sparse_start_layer minimax_music_lm_max_frames minimax_music_lm_target_frames musubi_blocks_to_swap
    num_train_epochs prodigy_steps scheduled_sampling_max_step_offset scheduled_sampling_ramp_steps scheduled_sampling_start_step
    singlora_ramp_up_steps text_encoder_limit urepa_cutoff_step urepa_decay_steps urepa_warmup_steps validate_after_epoch
    validate_after_step validation_no_cfg_until_timestep validation_seed validation_step_interval validation_steps
    webhook_reporting_interval xm_block_size
"""

_COUNTS_FROM_ONE = """
    aspect_bucket_worker_count audio_channels aws_max_pool_connections checkpoint_epoch_interval checkpoint_step_interval
    checkpointing_steps context_parallel_size crepa_encoder_image_size dataloader_prefetch_qlen
    deepfloyd_validation_stage1_num_inference_steps deepfloyd_validation_stage2_num_inference_steps ema_update_interval
    eval_steps_interval eval_timesteps feed_forward_chunk_size gradient_accumulation_steps gradient_checkpointing_interval
    gradient_checkpointing_segment_stride group_offload_blocks_per_group image_processing_batch_size lora_rank lr_num_cycles
    ltx2_prefix_conditioning_frames ltx2_reference_spatial_scale_factor ltx2_reference_temporal_scale_factor
    ltx2_suffix_conditioning_frames main_process_port max_workers nsfw_check_min_votes nsfw_check_video_frame_count
    nsfw_check_video_min_flagged_frames num_eval_images num_processes num_validation_images read_batch_size sdnq_hadamard_group_size
    sdnq_svd_rank sdnq_svd_steps text_encoder_batch_size tokenizer_max_length torch_num_threads train_batch_size
    urepa_encoder_image_size vae_batch_size validation_epoch_interval validation_num_inference_steps validation_num_video_frames
    validation_preview_steps write_batch_size xm_candidate_count
"""

_SHARES = """
    adam_beta1 adam_beta2 caption_dropout_probability crepa_self_flow_mask_ratio crepa_similarity_ema_decay crepa_similarity_threshold
    ema_decay input_perturbation learning_rate lora_dropout ltx2_first_frame_conditioning_probability ltx2_mask_conditioning_probability
    ltx2_prefix_conditioning_probability ltx2_suffix_conditioning_probability ltx_i2v_prob ltx_partial_noise_fraction
    masked_loss_probability minimax_h3_sparse_video_kv_fraction mixflow_gamma noise_offset noise_offset_probability optimizer_beta1
    optimizer_beta2 refiner_training_strength scheduled_sampling_prob_end scheduled_sampling_prob_start scheduled_sampling_probability
    timestep_bias_portion urepa_similarity_ema_decay urepa_similarity_threshold
"""

_AMOUNTS = """
    adam_epsilon adam_weight_decay audio_duration_interval audio_flow_schedule_shift audio_max_duration_seconds
    audio_min_duration_seconds crepa_adjacent_tau crepa_lambda crepa_lambda_end crepa_power data_aesthetic_score
    deepfloyd_validation_stage1_guidance deepfloyd_validation_stage2_guidance deepfloyd_validation_stage3_guidance eval_epoch_interval
    flow_beta_schedule_alpha flow_beta_schedule_beta flow_schedule_shift flow_sigmoid_scale flux_guidance_max flux_guidance_min
    flux_guidance_value hidream_load_balancing_loss_weight huber_c init_lokr_norm internal_guidance_loss_weight
    irepa_spatial_norm_alpha layersync_lambda lora_alpha lr_end lr_power ltx2_validation_audio_guidance lyrics_embedder_lr max_grad_norm
    max_upscale_threshold maximum_image_size minimax_music_lm_max_duration_seconds minimax_music_lm_min_duration_seconds
    minimum_image_size nextlat_kl_weight nextlat_weight snr_gamma snr_weight soft_min_snr_sigma_data target_downsample_size
    text_encoder_lr timestep_bias_multiplier urepa_lambda urepa_lambda_end urepa_manifold_weight urepa_power validation_adapter_strength
    validation_audio_duration validation_guidance validation_guidance_real validation_guidance_rescale
    validation_guidance_skip_layers_start validation_guidance_skip_layers_stop validation_guidance_skip_scale
    validation_internal_guidance_scale validation_lycoris_strength
"""

_SIGNED = """
    assistant_lora_inference_strength assistant_lora_strength ideogram_schedule_mu ideogram_schedule_std
    minimax_music_lm_adapter_strength moss_image_validation_shift scheduled_sampling_reflexflow_alpha scheduled_sampling_reflexflow_beta1
    scheduled_sampling_reflexflow_beta2
"""

_TEXTS = """
    accelerate_extra_args assistant_lora_path cache_dir cache_dir_text cache_dir_vae controlnet_model_name_or_path
    cosmos3_generator_component cosmos3_reasoner_component crepa_encoder custom_text_encoder_intermediary_layers
    deepfloyd_validation_stage1_model
    deepfloyd_validation_stage2_model deepfloyd_validation_stage3_model dynamo_cache_export eval_dataset_id
    fsdp_transformer_layer_cls_to_wrap group_offload_to_disk_path ideogram_prompt_enhancer_head_id init_lora init_lora_ema
    instance_prompt logging_dir ltx2_validation_spatial_upsampler_filename ltx2_validation_spatial_upsampler_model main_process_ip
    minimax_h3_sparse_block_shape minimax_music_lm_adapter minimax_music_rvq_encoder_model_name_or_path
    minimax_music_rvq_encoder_revision minimax_music_rvq_encoder_subfolder minimax_music_rvq_vae_model_name_or_path
    model_card_base_model model_card_note model_flavour moss_image_prompt_upsampler_model_id musubi_block_swap_device
    nsfw_check_backend_types nsfw_check_models nsfw_check_sample_types offload_param_path optimizer_config parquet_caption_column
    parquet_filename_column pixart_validation_stage1_model pixart_validation_stage2_model pretrained_evaluation_model_name_or_path
    pretrained_gemma_model_name_or_path pretrained_grounding_model_name_or_path pretrained_model_name_or_path
    pretrained_t5_model_name_or_path pretrained_transformer_model_name_or_path pretrained_transformer_subfolder
    pretrained_unet_model_name_or_path pretrained_unet_subfolder pretrained_vae_model_name_or_path qwen_text_encoder_model_name_or_path
    ramtorch_target_modules resume_from_checkpoint sdnq_weights_dtype sdxl_validation_stage1_model sdxl_validation_stage2_model
    urepa_model user_prompt_library lycoris_config validation_adapter_name validation_adapter_path validation_lyrics
    validation_negative_prompt validation_prompt variant
"""

SETTINGS: dict[str, Setting] = {
    **_each(Setting("flag"), _FLAGS),
    **_each(Setting("flag or text"), "skip_file_discovery validation_prompt_library"),
    **_each(Setting("whole", low=0), _COUNTS),
    **_each(Setting("whole", low=1), _COUNTS_FROM_ONE),
    **_each(Setting("whole"), "crepa_encoder_frames_batch_size local_rank nextlat_block_index sdnq_group_size"),
    **_each(Setting("whole", low=0, high=100), "ramtorch_text_encoder_percent ramtorch_transformer_percent"),
    **_each(Setting("whole", low=0, high=1000), "timestep_bias_begin timestep_bias_end"),
    **_each(Setting("whole", low=1, high=9), "aspect_bucket_rounding scheduled_sampling_order"),
    "fsdp_version": Setting("whole", low=1, high=2),
    "metadata_update_interval": Setting("whole", low=60),
    "num_machines": Setting("whole", low=1, high=1),  # the hosted trainer is one machine
    "seed": Setting("whole", low=-1, high=2**32 - 1),  # -1: another one at each start; the upper bound is NumPy's
    "twinflow_target_step_count": Setting("whole", low=1, high=8),
    "validation_image_quality": Setting("whole", low=1, high=100),
    **_each(Setting("number", low=0, high=1), _SHARES),
    **_each(Setting("number", low=0), _AMOUNTS),
    **_each(Setting("number"), _SIGNED),
    "resolution": Setting("number", low=0.1, high=4096),
    **_each(Setting("text"), _TEXTS),
    **_each(
        Setting("text or number"),
        "disk_low_threshold flow_custom_timesteps framerate revision tracker_project_name tracker_run_name validation_resolution",
    ),
    **_each(
        Setting("object"),
        """controlnet_custom_config deepspeed_config diffusion_blocks_config distillation_config quantization_config
        sdnq_modules_dtype_dict sdnq_modules_quant_config sla_config tread_config validation_adapter_config""",
    ),
    **_each(
        Setting("list"),
        """accelerate_visible_devices flow_cubic_schedule_weights ltx2_intrinsic_conditioning modelspec_comment
        moss_image_uncond_skip_layers peft_lora_target_modules sana_complex_human_instruction sdnq_modules_to_not_convert
        sdnq_modules_to_not_use_matmul validation_guidance_skip_layers""",
    ),
    # The last ones are notes that SimpleTuner's pages leave in a config and its trainer skips.
    **_each(
        Setting("anything"),
        """validation_input validation_ltx2_video_conditioning accelerate_strategy aspect_ratio_bucketing aspect_ratio_bucket_max
        aspect_ratio_bucket_min ez_model_type repeats __active_tab__ __disabled_fields__""",
    ),
    "report_to": Setting("words", words=("simpletuner", "tensorboard", "wandb", "swanlab", "comet_ml", "custom-tracker", "none", "all")),
    **_words(
        acestep_lora_target="attn_qkv attn_qkv+linear_qkv attn_qkv+linear_qkv+speech_embedder",
        aspect_bucket_alignment="8 16 24 32 64",
        attention_mechanism=_ATTENTION,
        audio_truncation_mode="beginning end random",
        base_model_default_dtype="bf16 fp32",
        base_model_precision=_PRECISIONS,
        caption_strategy="filename textfile instance_prompt parquet",
        conditioning_multidataset_sampling="combined random",
        context_parallel_comm_strategy="allgather alltoall",
        crepa_feature_source="encoder backbone self_flow",
        crepa_scheduler="constant linear cosine polynomial",
        crepa_threshold_mode="permanent recoverable",
        data_backend_sampling="uniform auto-weighting",
        deepfloyd_validation_pipeline_mode="auto trained-stage full-pipeline",
        deepfloyd_validation_stage3_mode="none sd-x4-upscaler",
        disk_low_action="stop wait script",
        distillation_method="lcm dcm dmd perflow flow_dpo anyflow assistant_lora h3_drift self_transcendence",
        dynamo_backend="""no inductor eager aot_eager aot_ts_nvfuser nvprims_nvfuser cudagraphs ofi fx2trt onnxrt tensorrt ipex tvm
            hpu_backend""",
        dynamo_mode="default reduce-overhead max-autotune max-autotune-no-cudagraphs",
        dynamo_wrapper="cpp python",
        ema_device="accelerator cpu",
        ema_validation="none ema_only comparison",
        evaluation_type="none clip",
        flow_timesteps_mode="fixed-list fixed_list round-robin round_robin",
        flux_guidance_mode="constant random-range",
        flux_lora_target="""mmdit context context+ffs all all+ffs ai-toolkit tiny nano controlnet all+ffs+embedder
            all+ffs+embedder+controlnet""",
        freeze_encoder_strategy="before between after",
        fsdp_auto_wrap_policy="TRANSFORMER_BASED_WRAP SIZE_BASED_WRAP NO_WRAP",
        fsdp_state_dict_type="SHARDED_STATE_DICT FULL_STATE_DICT",
        grad_clip_method="value norm",
        gradient_checkpointing_backend="torch torch-ffn unsloth unsloth-ffn",
        gradient_precision="unmodified fp32",
        group_offload_type="block_level leaf_level",
        huber_schedule="snr exponential constant",
        inference_scheduler_timestep_spacing="leading linspace trailing",
        irepa_projector_kernel_size="1 3 5 7",
        layer_freeze_strategy="none bitfit",
        lora_format="diffusers comfyui",
        lora_init_type="default gaussian loftq olora pissa",
        lora_type="standard lycoris",
        loss_type="l2 huber smooth_l1",
        lr_scheduler=_SCHEDULERS,
        ltx2_validation_pipeline_mode="trained-stage spatial-upscale",
        ltx_train_mode="t2v i2v",
        lyrics_embedder_lr_scheduler=_SCHEDULERS,
        lyrics_embedder_optimizer=_OPTIMIZERS,
        minimax_h3_reference_mode="vanilla cached_kv",
        minimax_h3_sparse_attention="disabled moba3d",
        minimax_h3_target_mode="auto video av",
        minimax_music_lm_continuation_crop_mode="full random",
        minimax_music_lm_precache_mode="text-only audio-only audio+text",
        minimax_music_lm_window_mode="prefix random continuation",
        minimax_music_train_component="transformer language_model",
        mixed_precision="no fp16 bf16 fp8",
        model_family=_FAMILIES,
        model_type="lora full",
        nextlat_state_loss="smooth_l1 mse",
        nsfw_check_video_frame_selection="uniform first middle",
        optimizer=_OPTIMIZERS,
        optimizer_cpu_offload_method="none",
        peft_lora_mode="standard singlora",
        pixart_validation_pipeline_mode="trained-stage full-pipeline",
        prediction_type="epsilon v_prediction sample flow_matching flow_map",
        quantize_via="cpu accelerator pipeline",
        resolution_type="pixel area pixel_area",
        sageattention_usage="training inference training+inference",
        scheduled_sampling_ramp_shape="linear cosine",
        scheduled_sampling_sampler="unipc euler dpm",
        scheduled_sampling_strategy="uniform biased_early biased_late",
        sd3_clip_uncond_behaviour="empty_string zero",
        sd3_t5_uncond_behaviour="empty_string zero",
        sdnq_compile_mode="auto compile eager",
        sdnq_quantized_matmul_dtype="auto int8 float8_e4m3fn fp8 float16 fp16",
        sdxl_validation_pipeline_mode="trained-stage full-pipeline",
        t5_padding="zero unmodified",
        text_encoder_1_precision=_PRECISIONS,
        text_encoder_2_precision=_PRECISIONS,
        text_encoder_3_precision=_PRECISIONS,
        text_encoder_4_precision=_PRECISIONS,
        timestep_bias_strategy="earlier later range none",
        tracker_image_layout="gallery table",
        training_dynamo_backend="""no inductor eager aot_eager aot_ts_nvfuser nvprims_nvfuser cudagraphs ofi fx2trt onnxrt tensorrt ipex
            tvm hpu_backend""",
        training_scheduler_timestep_spacing="leading linspace trailing",
        urepa_scheduler="constant linear cosine polynomial",
        urepa_threshold_mode="permanent recoverable",
        vae_cache_scan_behaviour="recreate sync",
        vae_dtype="default fp32 fp16 bf16",
        validation_adapter_mode="adapter_only comparison none",
        validation_image_format="png webp jpeg",
        validation_method="simpletuner-local external-script",
        validation_multigpu="single-gpu batch-parallel",
        validation_noise_scheduler="ddim ddpm euler euler-a unipc dpm++ perflow",
        validation_seed_source="cpu gpu",
        validation_stitch_input_location="left right",
        validation_torch_compile_mode="default reduce-overhead max-autotune max-autotune-no-cudagraphs",
        xm_selection_scope="sample block",
        xm_training_target="noise route",
    ),
}

_DATA = "What is trained on comes from the job's dataset. Leave the key out, and give 'dataset' or 'dataloader_config' beside the config."
_EVENTS = "The hosted trainer replaces it with a receiver of its own. Leave the key out; the job's page and our webhooks tell what happens."
_FOLDER = "The trainer chooses its own output folder. Leave the key out; the job's results are listed with the job."
_DESTINATION = (
    "Where the result goes is the job's destination, not the config's. Leave the key out, and give 'hub_model_id' beside the config "
    "to push to the Hugging Face Hub."
)
_SCRIPT = "The trainer runs in a container of its own, and the script is not in it. Leave the key out."
_FILE = "The trainer runs in a container of its own, and the file is not in it. Leave the key out."
_PAGES = "It belongs to SimpleTuner's own pages and not to a training config. Leave the key out."
_WRAPPED = "This is a config as SimpleTuner's own pages keep it on disk. Send only what stands under its 'config'."

# Keys that SimpleTuner has and people may not set here, with the reason.
NOT_ALLOWED: dict[str, str] = {
    "accelerate_config": _FILE,
    "custom_tracker": _FILE,
    "data_backend_config": _DATA,
    "disk_low_script": _SCRIPT,
    "dynamo_hub_repo_id": _DESTINATION,
    "hub_model_id": _DESTINATION,
    "output_dir": _FOLDER,
    "post_checkpoint_script": _SCRIPT,
    "post_upload_script": _SCRIPT,
    "publishing_config": _DESTINATION,
    "push_checkpoints_to_hub": _DESTINATION,
    "push_to_hub": _DESTINATION,
    "validation_external_background": _SCRIPT,
    "validation_external_script": _SCRIPT,
    "webhook_config": _EVENTS,
    "configs_dir": _PAGES,
    "merge_environment_config": _PAGES,
    "_metadata": _WRAPPED,
    "config": _WRAPPED,
}

# Switched off, these ask for nothing and may stay.
HARMLESS_WHEN_OFF = frozenset({"push_checkpoints_to_hub", "push_to_hub", "validation_external_background"})

# Values that name a model, an adapter or a file: on the Hub they can be found, on somebody's own disk they cannot.
PLACES = re.compile(r"_name_or_path$|_model$|_adapter$|^(assistant_lora|validation_adapter)_path$")
# From where training begins. A run at the provider begins with nothing: see `jobs.services.checkpoints` for what SimpleTuner's code says.
BEGINNINGS: dict[str, str] = {
    "resume_from_checkpoint": (
        "'resume_from_checkpoint' can only be 'latest', or be left out: each run at the provider begins with an empty folder, "
        "so that there is no checkpoint in it to go on from, and the trainer would stop."
    ),
    **{
        key: (
            f"'{key}' names a file on the trainer's own disk, which is empty when a run begins; it takes no repository and no address. "
            "Leave it out: the run trains from its first step on."
        )
        for key in ("init_lora", "init_lora_ema")
    },
}
NO_BEGINNING = {
    "resume_from_checkpoint": {"", "none", "false", "latest"},
    "init_lora": {"", "none", "false"},
    "init_lora_ema": {"", "none", "false"},
}
# Files that exist only where the config was written. SimpleTuner ships those below config/examples/ itself.
FILES = frozenset({"lycoris_config", "user_prompt_library"})
SHIPPED = "config/examples/"

# Names from other trainers and older releases, too far from SimpleTuner's for a likeness to find them.
OTHER_NAMES: dict[str, str] = {
    "alpha": "lora_alpha",
    "base_model": "pretrained_model_name_or_path",
    "batch_size": "train_batch_size",
    "epochs": "num_train_epochs",
    "family": "model_family",
    "flux_schedule_auto_shift": "flow_schedule_auto_shift",
    "flux_schedule_shift": "flow_schedule_shift",
    "lr": "learning_rate",
    "max_steps": "max_train_steps",
    "model": "pretrained_model_name_or_path",
    "network_alpha": "lora_alpha",
    "network_dim": "lora_rank",
    "prompt": "validation_prompt",
    "rank": "lora_rank",
    "scheduler": "lr_scheduler",
    "steps": "max_train_steps",
    "warmup_steps": "lr_warmup_steps",
}

SECRET_KEY = re.compile(
    r"^tokens?$|(^|_)(((access|api|auth|bearer|hf|hub|huggingface|refresh|replicate|session|upload|wandb)_?tokens?)"
    r"|secrets?|passwords?|passwd|passphrase|credentials?|(access|api|private|secret|wandb)_?keys?)($|_)"
)
# How Hugging Face, Replicate, AWS, GitHub and Weights & Biases write an access token.
SECRET_VALUE = re.compile(
    r"(?<![A-Za-z0-9])(hf_[A-Za-z0-9]{16,}|r8_[A-Za-z0-9]{16,}|AKIA[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,})"
)
