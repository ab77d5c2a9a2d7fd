-- What its tokens would cost at today's price of its endpoint, rounded up once as the ledger does.
-- Unknown: no price today, no end yet, or a bill without tokens (a person's verdict).
WITH attempts AS (
    SELECT *, {{ origin() }} AS origin FROM {{ source('raw', 'attempts') }}
),

rates AS (
    SELECT origins.origin, prices.input_rate, prices.cached_rate, prices.output_rate, prices.denominator
    FROM {{ ref('stg_origins') }} AS origins
    INNER JOIN {{ source('raw', 'prices') }} AS prices
        ON prices.endpoint = origins.endpoint AND prices.model = origins.model
)

SELECT
    attempts.attempt, attempts.previous, attempts.origin, CAST(attempts.sent_at AS DATE) AS day, attempts.document,
    attempts.state, attempts.error, attempts.sent_at, attempts.latency_s,
    attempts.input_tokens, attempts.cached_tokens, attempts.output_tokens, attempts.reasoning_tokens,
    attempts.cost_usd, attempts.maybe_usd,
    CASE
        WHEN attempts.state IN ('intent', 'ambiguous') THEN NULL
        WHEN attempts.cost_usd > 0 AND coalesce(attempts.input_tokens, 0) + coalesce(attempts.output_tokens, 0) = 0
            THEN NULL
        ELSE {{ dollars_of_nano("""(
            greatest(0, coalesce(attempts.input_tokens, 0) - coalesce(attempts.cached_tokens, 0)) * rates.input_rate
            + coalesce(attempts.cached_tokens, 0) * rates.cached_rate
            + coalesce(attempts.output_tokens, 0) * rates.output_rate
            + rates.denominator - 1) // rates.denominator""") }}
    END AS cost_today_usd
FROM attempts
LEFT JOIN rates ON rates.origin = attempts.origin
