SELECT
    day, tenant, collection, asset, endpoint, model, error,
    count(*) AS attempts,
    {{ total('cost_usd') }} AS cost_usd,
    {{ total('maybe_usd') }} AS maybe_usd
FROM {{ ref('stg_attempt_facts') }} AS attempts
INNER JOIN {{ ref('stg_origins') }} AS origins ON origins.origin = attempts.origin
WHERE error IS NOT NULL
GROUP BY ALL
