-- Day by day within the current period; not for what counts each run, document or partition apart.
WITH budgets AS (
    SELECT * FROM {{ source('raw', 'budgets') }} WHERE burns
),

today AS (
    SELECT today FROM {{ source('raw', 'built') }}
),

spent AS (
    SELECT day, tenant, collection, asset, sum(cost_usd) AS spent_usd
    FROM {{ ref('spend') }}
    GROUP BY ALL
),

by_budget AS (
    SELECT budgets.budget, spent.day, sum(spent.spent_usd) AS spent_usd
    FROM budgets
    INNER JOIN spent
        ON (budgets.starts IS NULL OR spent.day >= budgets.starts)
        AND (budgets.of_tenant IS NULL OR spent.tenant = budgets.of_tenant)
        AND (budgets.of_collection IS NULL OR spent.collection = budgets.of_collection)
        AND (budgets.of_asset IS NULL OR spent.asset = budgets.of_asset)
    GROUP BY ALL
),

first_days AS (
    SELECT budgets.budget, coalesce(budgets.starts, min(by_budget.day), today.today) AS starts
    FROM budgets
    CROSS JOIN today
    LEFT JOIN by_budget ON by_budget.budget = budgets.budget
    GROUP BY budgets.budget, budgets.starts, today.today
),

days AS (
    SELECT budget, CAST(unnest(generate_series(CAST(starts AS TIMESTAMP), CAST(today AS TIMESTAMP), INTERVAL 1 DAY)) AS DATE) AS day
    FROM first_days
    CROSS JOIN today
)

SELECT
    days.budget,
    budgets.name,
    days.day,
    CAST(coalesce(by_budget.spent_usd, 0) AS DECIMAL(38, 9)) AS spent_usd,
    CAST(sum(coalesce(by_budget.spent_usd, 0)) OVER (PARTITION BY days.budget ORDER BY days.day) AS DECIMAL(38, 9))
        AS cumulative_usd,
    budgets.limit_usd
FROM days
INNER JOIN budgets ON budgets.budget = days.budget
LEFT JOIN by_budget ON by_budget.budget = days.budget AND by_budget.day = days.day
