"""The adapters have the names and the parameters that the course's own tests call."""

import inspect

import pytest

from cs336 import adapters

SIGNATURES = {
    "run_linear": "d_in d_out weights in_features",
    "run_embedding": "vocab_size d_model weights token_ids",
    "run_swiglu": "d_model d_ff w1_weight w2_weight w3_weight in_features",
    "run_scaled_dot_product_attention": "Q K V mask",
    "run_multihead_self_attention": (
        "d_model num_heads q_proj_weight k_proj_weight v_proj_weight o_proj_weight in_features"
    ),
    "run_multihead_self_attention_with_rope": (
        "d_model num_heads max_seq_len theta q_proj_weight k_proj_weight v_proj_weight o_proj_weight in_features "
        "token_positions"
    ),
    "run_rope": "d_k theta max_seq_len in_query_or_key token_positions",
    "run_transformer_block": "d_model num_heads d_ff max_seq_len theta weights in_features",
    "run_transformer_lm": ("vocab_size context_length d_model num_layers num_heads d_ff rope_theta weights in_indices"),
    "run_rmsnorm": "d_model eps weights in_features",
    "run_silu": "in_features",
    "run_get_batch": "dataset batch_size context_length device",
    "run_softmax": "in_features dim",
    "run_cross_entropy": "inputs targets",
    "run_gradient_clipping": "parameters max_l2_norm",
    "get_adamw_cls": "",
    "run_get_lr_cosine_schedule": "it max_learning_rate min_learning_rate warmup_iters cosine_cycle_iters",
    "run_save_checkpoint": "model optimizer iteration out",
    "run_load_checkpoint": "src model optimizer",
    "get_tokenizer": "vocab merges special_tokens",
    "run_train_bpe": "input_path vocab_size special_tokens kwargs",
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_an_adapter_has_the_courses_parameters(name: str) -> None:
    assert list(inspect.signature(getattr(adapters, name)).parameters) == SIGNATURES[name].split()


def test_there_is_no_other_adapter() -> None:
    assert {name for name in vars(adapters) if name.startswith(("run_", "get_")) and name != "get_batch"} == set(
        SIGNATURES
    )
