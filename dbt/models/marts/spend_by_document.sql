WITH paid AS (
    SELECT
        origins.asker, attempts.document,
        count(*) - count(previous) AS calls,
        count(*) AS attempts,
        {{ total('cost_usd') }} AS cost_usd,
        {{ total('maybe_usd') }} AS maybe_usd,
        max(day) AS last_day
    FROM {{ ref('stg_attempt_facts') }} AS attempts
    INNER JOIN {{ ref('stg_origins') }} AS origins ON origins.origin = attempts.origin
    GROUP BY ALL
),

saved AS (
    SELECT
        origins.asker, reuses.document,
        count(*) AS reused,
        {{ total('saved_usd') }} AS saved_usd,
        max(day) AS last_day
    FROM {{ ref('stg_reuse_facts') }} AS reuses
    INNER JOIN {{ ref('stg_origins') }} AS origins ON origins.origin = reuses.origin
    GROUP BY ALL
),

askers AS (
    SELECT DISTINCT asker, tenant, collection, asset FROM {{ ref('stg_origins') }}
),

published AS (
    SELECT DISTINCT collection, document FROM {{ source('raw', 'published_documents') }}
)

SELECT
    askers.tenant, askers.collection, askers.asset, document,
    coalesce(paid.calls, 0) AS calls,
    coalesce(paid.attempts, 0) AS attempts,
    coalesce(saved.reused, 0) AS reused,
    coalesce(paid.cost_usd, 0) AS cost_usd,
    coalesce(saved.saved_usd, 0) AS saved_usd,
    coalesce(paid.maybe_usd, 0) AS maybe_usd,
    published.document IS NOT NULL AS published,
    greatest(paid.last_day, saved.last_day) AS last_day
FROM paid
FULL JOIN saved USING (asker, document)
INNER JOIN askers USING (asker)
LEFT JOIN published USING (collection, document)
