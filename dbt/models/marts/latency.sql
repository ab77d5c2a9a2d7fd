-- The shortest time that so many of a hundred answers did not exceed.
WITH timed AS (
    SELECT
        attempts.day, origins.service,
        count(*) FILTER (WHERE state = 'settled') AS answers,
        quantile_disc(latency_s, [0.5, 0.95, 0.99]) FILTER (WHERE state = 'settled') AS quantiles,
        count(previous) AS retries,
        count(previous) / count(*) AS retry_share
    FROM {{ ref('stg_attempt_facts') }} AS attempts
    INNER JOIN {{ ref('stg_origins') }} AS origins ON origins.origin = attempts.origin
    GROUP BY ALL
),

services AS (
    SELECT DISTINCT service, endpoint, model, kind FROM {{ ref('stg_origins') }}
)

SELECT
    timed.day, services.endpoint, services.model, services.kind,
    timed.answers,
    timed.quantiles[1] AS p50_s,
    timed.quantiles[2] AS p95_s,
    timed.quantiles[3] AS p99_s,
    timed.retries,
    timed.retry_share
FROM timed
INNER JOIN services ON services.service = timed.service
