{# The sums of each day are those that the ledger itself had when the day was copied. `columns`: ours by the ledger's. #}
{% test adds_up_each_day(model, columns) %}
WITH ours AS (
    SELECT
        day,
        {% for theirs, column in columns.items() %}{{ column }} AS {{ theirs }}{{ ',' if not loop.last }}
        {% endfor %}
    FROM {{ model }}
    GROUP BY day
)

{% for theirs in columns %}
SELECT
    coalesce(days.day, ours.day) AS day,
    '{{ theirs }}' AS figure,
    days.{{ theirs }} AS expected,
    ours.{{ theirs }} AS found
FROM {{ source('raw', 'days') }} AS days
FULL JOIN ours ON ours.day = days.day
WHERE coalesce(days.{{ theirs }}, 0) <> coalesce(ours.{{ theirs }}, 0)
{{ 'UNION ALL' if not loop.last }}
{% endfor %}
{% endtest %}
