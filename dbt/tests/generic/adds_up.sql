{# The sums of the columns are those of another table, to the last digit. #}
{% test adds_up(model, to, columns) %}
{% for column in columns %}
SELECT
    '{{ column }}' AS figure,
    (SELECT coalesce(sum({{ column }}), 0) FROM {{ to }}) AS expected,
    (SELECT coalesce(sum({{ column }}), 0) FROM {{ model }}) AS found
WHERE expected <> found
{{ 'UNION ALL' if not loop.last }}
{% endfor %}
{% endtest %}
