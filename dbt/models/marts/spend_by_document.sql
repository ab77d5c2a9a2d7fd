-- depends_on: {{ ref('stg_attempt_facts') }}
-- depends_on: {{ ref('stg_reuse_facts') }}
WITH spent AS (
    SELECT
        origins.asker, rows.document,
        count(*) FILTER (WHERE state IS NOT NULL AND previous IS NULL) AS calls,
        count(state) AS attempts,
        count(*) FILTER (WHERE state IS NULL) AS reused,
        {{ total('cost_usd') }} AS cost_usd,
        {{ total('saved_usd') }} AS saved_usd,
        {{ total('maybe_usd') }} AS maybe_usd,
        max(day) AS last_day
    FROM {{ attempts_and_reuses(['origin', 'document', 'day']) }} AS rows
    INNER JOIN {{ ref('stg_origins') }} AS origins ON origins.origin = rows.origin
    GROUP BY ALL
),

askers AS (
    SELECT DISTINCT asker, tenant, collection, asset FROM {{ ref('stg_origins') }}
),

published AS (
    SELECT DISTINCT collection, document FROM {{ source('raw', 'published_documents') }}
)

SELECT
    askers.tenant, askers.collection, askers.asset, spent.document,
    spent.calls, spent.attempts, spent.reused, spent.cost_usd, spent.saved_usd, spent.maybe_usd,
    published.document IS NOT NULL AS published,
    spent.last_day
FROM spent
INNER JOIN askers ON askers.asker = spent.asker
LEFT JOIN published ON published.collection = askers.collection AND published.document = spent.document
