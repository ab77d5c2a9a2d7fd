{# Attempts and reuses as rows of one kind, so that one look adds up both. A reuse is no attempt and costs nothing. #}
{% macro attempts_and_reuses(columns) %}
(
    SELECT
        {{ columns | join(', ') }},
        state, previous, input_tokens, cached_tokens, output_tokens, reasoning_tokens,
        cost_usd, cost_today_usd, maybe_usd, CAST(0 AS DECIMAL(18, 9)) AS saved_usd
    FROM {{ ref('stg_attempt_facts') }}
    UNION ALL
    SELECT
        {{ columns | join(', ') }},
        NULL, NULL, 0, 0, 0, 0, 0, 0, 0, saved_usd
    FROM {{ ref('stg_reuse_facts') }}
)
{% endmacro %}
