-- What a collection cost, all of it, over the documents that models were asked about.
WITH spent AS (
    SELECT
        tenant, collection, document,
        sum(cost_usd) AS cost_usd,
        bool_or(published) AS published
    FROM {{ ref('spend_by_document') }}
    GROUP BY ALL
),

counted AS (
    SELECT
        tenant, collection,
        count(*) FILTER (WHERE document <> '') AS documents,
        count(*) FILTER (WHERE document <> '' AND published) AS published_documents,
        {{ total('cost_usd') }} AS cost_usd
    FROM spent
    GROUP BY ALL
)

SELECT
    *,
    {{ per('cost_usd', 'documents') }} AS usd_per_document,
    {{ per('cost_usd', 'published_documents') }} AS usd_per_published_document
FROM counted
