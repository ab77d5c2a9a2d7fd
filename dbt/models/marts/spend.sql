-- depends_on: {{ ref('stg_attempt_facts') }}
-- depends_on: {{ ref('stg_reuse_facts') }}
WITH on_devices AS (
    SELECT
        day, origin,
        CAST(sum(gpu_s) AS DECIMAL(38, 6)) AS gpu_s,
        CAST(sum(cpu_s) AS DECIMAL(38, 6)) AS cpu_s
    FROM {{ ref('stg_attempt_facts') }}
    WHERE cpu_s IS NOT NULL
    GROUP BY ALL
),

summed AS (
    SELECT
        day, origin,
        count(*) FILTER (WHERE state IS NOT NULL AND previous IS NULL) AS calls,
        count(state) AS attempts,
        count(*) FILTER (WHERE state = 'settled') AS answers,
        count(*) FILTER (WHERE state = 'failed') AS failed,
        count(*) FILTER (WHERE state = 'ambiguous') AS ambiguous,
        count(*) FILTER (WHERE state = 'intent') AS in_flight,
        count(*) FILTER (WHERE state IS NULL) AS reused,
        CAST(coalesce(sum(input_tokens), 0) AS BIGINT) AS input_tokens,
        CAST(coalesce(sum(cached_tokens), 0) AS BIGINT) AS cached_tokens,
        CAST(coalesce(sum(output_tokens), 0) AS BIGINT) AS output_tokens,
        CAST(coalesce(sum(reasoning_tokens), 0) AS BIGINT) AS reasoning_tokens,
        {{ total('cost_usd') }} AS cost_usd,
        {{ total('saved_usd') }} AS saved_usd,
        {{ total('maybe_usd') }} AS maybe_usd,
        CASE
            WHEN count(*) FILTER (WHERE cost_usd IS NOT NULL AND cost_today_usd IS NULL) = 0
                THEN {{ total('cost_today_usd') }}
        END AS cost_today_usd
    FROM {{ attempts_and_reuses(['day', 'origin']) }}
    GROUP BY ALL
)

SELECT summed.day, {{ origin_columns() }}, summed.* EXCLUDE (day, origin), on_devices.gpu_s, on_devices.cpu_s
FROM summed
LEFT JOIN on_devices ON on_devices.day = summed.day AND on_devices.origin = summed.origin
INNER JOIN {{ ref('stg_origins') }} AS origins ON origins.origin = summed.origin
