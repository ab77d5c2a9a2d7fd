-- The month's end from the last 28 complete days, those without spend included; the method is in docs/costs.md.
WITH today AS (
    SELECT
        today,
        CAST(date_trunc('month', today) AS DATE) AS month,
        CAST(last_day(today) AS DATE) - today AS days_left
    FROM {{ source('raw', 'built') }}
),

spent AS (
    SELECT
        coalesce(tenant, '') AS tenant, coalesce(collection, '') AS collection, day, sum(cost_usd) AS spent_usd
    FROM {{ ref('spend') }}
    GROUP BY GROUPING SETS ((day), (tenant, day), (tenant, collection, day))
    HAVING grouping(collection) = 1 OR collection <> ''
),

first_days AS (
    SELECT tenant, collection, greatest(min(day), CAST(any_value(today.today) - 28 AS DATE)) AS starts
    FROM spent
    CROSS JOIN today
    GROUP BY ALL
),

-- Before the first day is over, that day is all there is.
days AS (
    SELECT
        tenant, collection,
        CAST(unnest(generate_series(
            CAST(starts AS TIMESTAMP),
            CAST(greatest(starts, CAST(today - 1 AS DATE)) AS TIMESTAMP),
            INTERVAL 1 DAY)) AS DATE) AS day
    FROM first_days
    CROSS JOIN today
),

usual AS (
    SELECT
        days.tenant, days.collection,
        avg(CAST(coalesce(spent.spent_usd, 0) AS DOUBLE)) AS mean_usd,
        coalesce(
            stddev_samp(CAST(coalesce(spent.spent_usd, 0) AS DOUBLE)), avg(CAST(coalesce(spent.spent_usd, 0) AS DOUBLE))
        ) AS spread_usd
    FROM days
    LEFT JOIN spent USING (tenant, collection, day)
    GROUP BY ALL
),

so_far AS (
    SELECT
        spent.tenant, spent.collection,
        CAST(coalesce(sum(spent.spent_usd) FILTER (WHERE spent.day >= today.month), 0) AS DECIMAL(38, 9)) AS spent_usd,
        CAST(coalesce(sum(spent.spent_usd) FILTER (WHERE spent.day = today.today), 0) AS DECIMAL(38, 9)) AS today_usd
    FROM spent
    CROSS JOIN today
    GROUP BY ALL
),

-- Today counts as the larger of what it has cost so far and a usual day.
ahead AS (
    SELECT
        so_far.tenant, so_far.collection, today.month, so_far.spent_usd,
        greatest(0, usual.mean_usd - CAST(so_far.today_usd AS DOUBLE)) + usual.mean_usd * today.days_left AS likely,
        1.645 * usual.spread_usd * sqrt(today.days_left + 1) AS margin
    FROM so_far
    INNER JOIN usual USING (tenant, collection)
    CROSS JOIN today
)

SELECT
    tenant, collection, month, spent_usd,
    CAST(spent_usd + CAST(greatest(0, likely - margin) AS DECIMAL(38, 9)) AS DECIMAL(38, 9)) AS low_usd,
    CAST(spent_usd + CAST(likely AS DECIMAL(38, 9)) AS DECIMAL(38, 9)) AS likely_usd,
    CAST(spent_usd + CAST(likely + margin AS DECIMAL(38, 9)) AS DECIMAL(38, 9)) AS high_usd
FROM ahead
