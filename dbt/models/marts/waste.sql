-- What became of the money. Each attempt that is or may be paid for has one category.
WITH followed AS (
    SELECT DISTINCT previous AS attempt FROM {{ ref('stg_attempt_facts') }} WHERE previous IS NOT NULL
),

-- Answers of calls that were asked again after an answer: only the last one counts.
repeated AS (
    SELECT attempt, call_key, sent_at
    FROM {{ source('raw', 'attempts') }}
    WHERE previous IS NOT NULL AND state = 'settled'
),

renewed AS (
    SELECT call_key, max_by(attempt, (sent_at, attempt)) AS newest FROM repeated GROUP BY call_key
),

-- Answers that a current row holds: a usable one (true), or only one that a quarantined row complains of (false).
held AS (
    SELECT call_key, bool_or(status = 'ok') AS usable
    FROM {{ source('raw', 'answers_in_use') }}
    WHERE call_key IS NOT NULL
    GROUP BY call_key
),

published_calls AS (
    SELECT DISTINCT call_key FROM {{ source('raw', 'published_calls') }}
),

-- A vector belongs to the text, and so to every document that paid for it or took it over.
vectors AS (
    SELECT attempts.attempt, origins.collection, attempts.document
    FROM {{ ref('stg_attempt_facts') }} AS attempts
    INNER JOIN {{ ref('stg_origins') }} AS origins ON origins.origin = attempts.origin
    WHERE origins.kind = 'embed' AND attempts.state = 'settled'
    UNION
    SELECT reuses.attempt, origins.collection, reuses.document
    FROM {{ ref('stg_reuse_facts') }} AS reuses
    INNER JOIN {{ ref('stg_origins') }} AS origins ON origins.origin = reuses.origin
    WHERE origins.kind = 'embed'
),

embedded AS (
    SELECT DISTINCT collection, document FROM {{ source('raw', 'answers_in_use') }} WHERE call_key IS NULL
),

published_documents AS (
    SELECT DISTINCT collection, document FROM {{ source('raw', 'published_documents') }}
),

vectors_in_use AS (
    SELECT
        vectors.attempt,
        bool_or(embedded.document IS NOT NULL) AS usable,
        bool_or(published.document IS NOT NULL) AS published
    FROM vectors
    LEFT JOIN embedded ON embedded.collection = vectors.collection AND embedded.document = vectors.document
    LEFT JOIN published_documents AS published
        ON published.collection = vectors.collection AND published.document = vectors.document
    GROUP BY vectors.attempt
),

judged AS (
    SELECT collection, asset FROM {{ source('raw', 'judged_assets') }}
),

-- Answers of which something is known, by their calls; the ledger's days have those.
known AS (
    SELECT call_key FROM held
    UNION
    SELECT call_key FROM published_calls
    UNION
    SELECT call_key FROM renewed
),

fates AS (
    SELECT
        calls.attempt,
        published_calls.call_key IS NOT NULL AS published,
        coalesce(renewed.newest <> calls.attempt, false) AS renewed,
        held.usable AS usable
    FROM {{ source('raw', 'attempts') }} AS calls
    INNER JOIN known ON known.call_key = calls.call_key
    LEFT JOIN renewed ON renewed.call_key = calls.call_key
    LEFT JOIN held ON held.call_key = calls.call_key
    LEFT JOIN published_calls ON published_calls.call_key = calls.call_key
    WHERE calls.state = 'settled'
),

judged_origins AS (
    SELECT origins.origin
    FROM {{ ref('stg_origins') }} AS origins
    INNER JOIN judged ON judged.collection = origins.collection AND judged.asset = origins.asset
),

summed AS (
    SELECT
        attempts.day, attempts.origin,
        -- Its place in the list of names below: ten million rows are grouped by it.
        CASE
            WHEN attempts.state = 'ambiguous' THEN 1
            WHEN attempts.state <> 'settled' AND followed.attempt IS NOT NULL THEN 2
            WHEN attempts.state <> 'settled' THEN 3
            WHEN vectors_in_use.published OR (fates.published AND NOT fates.renewed) THEN 4
            WHEN fates.renewed THEN 5
            WHEN fates.usable OR vectors_in_use.usable THEN 6
            WHEN NOT fates.usable THEN 3
            WHEN judged_origins.origin IS NOT NULL THEN 5
            ELSE 6
        END AS category,
        count(*) AS attempts,
        {{ total('attempts.cost_usd') }} AS cost_usd,
        {{ total('attempts.maybe_usd') }} AS maybe_usd
    FROM {{ ref('stg_attempt_facts') }} AS attempts
    LEFT JOIN followed ON followed.attempt = attempts.attempt
    LEFT JOIN fates ON fates.attempt = attempts.attempt
    LEFT JOIN vectors_in_use ON vectors_in_use.attempt = attempts.attempt
    LEFT JOIN judged_origins ON judged_origins.origin = attempts.origin
    WHERE attempts.state IN ('settled', 'ambiguous') OR attempts.cost_usd > 0
    GROUP BY ALL
)

SELECT
    summed.day, origins.tenant, origins.collection, origins.asset, origins.model,
    ['ambiguous', 'retried', 'failed', 'published', 'superseded', 'never published'][summed.category] AS category,
    CAST(sum(summed.attempts) AS BIGINT) AS attempts,
    {{ total('summed.cost_usd') }} AS cost_usd,
    {{ total('summed.maybe_usd') }} AS maybe_usd
FROM summed
INNER JOIN {{ ref('stg_origins') }} AS origins ON origins.origin = summed.origin
GROUP BY ALL
