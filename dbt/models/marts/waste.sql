-- What became of the money. Each attempt that is or may be paid for has one category.
WITH RECURSIVE retries AS (
    SELECT attempt, previous, duplicate_of, state, sent_at FROM {{ ref('stg_attempt_facts') }} WHERE previous IS NOT NULL
),

-- The attempts of a call that was asked more than once hang together by `previous`: the first one stands for it.
again AS (
    SELECT attempt, previous AS first_attempt, duplicate_of, state, sent_at
    FROM retries
    WHERE NOT EXISTS (SELECT 1 FROM retries AS before WHERE before.attempt = retries.previous)
    UNION ALL
    SELECT retries.attempt, again.first_attempt, retries.duplicate_of, retries.state, retries.sent_at
    FROM again
    INNER JOIN retries ON retries.previous = again.attempt
),

-- Answers of calls that were asked again after an answer: only the last one counts, and no second answer does.
newest AS (
    SELECT first_attempt, max_by(attempt, (sent_at, attempt)) AS attempt
    FROM again
    WHERE state = 'settled' AND duplicate_of IS NULL
    GROUP BY first_attempt
),

renewed AS (
    SELECT first_attempt AS attempt FROM newest
    UNION ALL
    SELECT again.attempt
    FROM again
    INNER JOIN newest ON newest.first_attempt = again.first_attempt
    WHERE again.attempt <> newest.attempt
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

-- Answers of which something is known, by their calls; the ledger's days have those.
known AS (
    SELECT call_key, held.usable, published_calls.call_key IS NOT NULL AS published
    FROM held
    FULL JOIN published_calls USING (call_key)
),

-- A vector belongs to the text, and so to every document that paid for it or took it over.
vectors AS (
    SELECT attempts.attempt, origins.collection, attempts.document
    FROM {{ ref('stg_attempt_facts') }} AS attempts
    INNER JOIN {{ ref('stg_origins') }} AS origins ON origins.origin = attempts.origin
    WHERE origins.kind = 'embed' AND attempts.state = 'settled'
    UNION ALL
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

-- What is known of an attempt beside its state; most are told by that alone.
signs AS (
    SELECT
        previous AS attempt, true AS followed,
        {% for sign in ['renewed', 'usable', 'published', 'embedded', 'published_vector'] -%}
        CAST(NULL AS BOOLEAN) AS {{ sign }}{{ ', ' if not loop.last }}
        {%- endfor %}
    FROM retries
    UNION ALL
    SELECT attempt, NULL, true, NULL, NULL, NULL, NULL FROM renewed
    UNION ALL
    SELECT calls.attempt, NULL, NULL, known.usable, known.published, NULL, NULL
    FROM {{ source('raw', 'attempts') }} AS calls
    INNER JOIN known ON known.call_key = calls.call_key
    WHERE calls.state = 'settled'
    UNION ALL
    SELECT vectors.attempt, NULL, NULL, NULL, NULL, embedded.document IS NOT NULL, published.document IS NOT NULL
    FROM vectors
    LEFT JOIN embedded ON embedded.collection = vectors.collection AND embedded.document = vectors.document
    LEFT JOIN published_documents AS published
        ON published.collection = vectors.collection AND published.document = vectors.document
),

known_attempts AS (
    SELECT
        attempt,
        coalesce(bool_or(followed), false) AS followed,
        coalesce(bool_or(renewed), false) AS renewed,
        bool_or(usable) AS usable,
        coalesce(bool_or(published), false) AS published,
        coalesce(bool_or(embedded), false) AS embedded,
        coalesce(bool_or(published_vector), false) AS published_vector
    FROM signs
    GROUP BY attempt
),

judged_origins AS (
    SELECT origins.origin
    FROM {{ ref('stg_origins') }} AS origins
    INNER JOIN {{ source('raw', 'judged_assets') }} AS judged
        ON judged.collection = origins.collection AND judged.asset = origins.asset
),

summed AS (
    SELECT
        attempts.day, attempts.origin,
        -- Its place in the list of names below, as ten million rows are grouped by it; 0 is for their origin to say.
        CASE
            WHEN attempts.state = 'ambiguous' THEN 1
            WHEN attempts.duplicate_of IS NOT NULL THEN 7
            WHEN attempts.state <> 'settled' AND known_attempts.followed THEN 2
            WHEN attempts.state <> 'settled' THEN 3
            WHEN known_attempts.published_vector OR (known_attempts.published AND NOT known_attempts.renewed) THEN 4
            WHEN known_attempts.renewed THEN 5
            WHEN known_attempts.usable OR known_attempts.embedded THEN 6
            WHEN NOT known_attempts.usable THEN 3
            ELSE 0
        END AS category,
        count(*) AS attempts,
        {{ total('attempts.cost_usd') }} AS cost_usd,
        {{ total('attempts.maybe_usd') }} AS maybe_usd
    FROM {{ ref('stg_attempt_facts') }} AS attempts
    LEFT JOIN known_attempts ON known_attempts.attempt = attempts.attempt
    WHERE attempts.state IN ('settled', 'ambiguous') OR attempts.cost_usd > 0
    GROUP BY ALL
),

categories AS (
    SELECT
        summed.* EXCLUDE (category),
        CASE WHEN category > 0 THEN category WHEN judged_origins.origin IS NOT NULL THEN 5 ELSE 6 END AS category
    FROM summed
    LEFT JOIN judged_origins ON judged_origins.origin = summed.origin
)

SELECT
    summed.day, origins.tenant, origins.collection, origins.asset, origins.model,
    ['ambiguous', 'retried', 'failed', 'published', 'superseded', 'never published', 'paid twice'][summed.category] AS category,
    CAST(sum(summed.attempts) AS BIGINT) AS attempts,
    {{ total('summed.cost_usd') }} AS cost_usd,
    {{ total('summed.maybe_usd') }} AS maybe_usd
FROM categories AS summed
INNER JOIN {{ ref('stg_origins') }} AS origins ON origins.origin = summed.origin
GROUP BY ALL
