-- Ten million attempts have some thousand origins. Attempts and reuses hold the number, so that they are summed by it.
WITH origins AS (
    SELECT origin, {{ origin_columns() }} FROM {{ source('raw', 'attempts') }} GROUP BY ALL
    UNION
    SELECT origin, {{ origin_columns() }} FROM {{ source('raw', 'reuses') }} GROUP BY ALL
)

SELECT
    origin,
    {{ origin_columns() }},
    hash(tenant, collection, asset) AS asker,
    hash(endpoint, model, kind) AS service
FROM origins
