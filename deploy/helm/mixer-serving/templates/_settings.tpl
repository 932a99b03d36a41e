{{/* The service's environment: what the sections set, then what `settings` says. Every value is a string. */}}
{{- define "mixer.settings" -}}
{{- $settings := dict }}
{{- if .Values.gpu.enabled }}
{{- $_ := set $settings "MIXER_PROVIDERS" "CUDAExecutionProvider" }}
{{- end }}
{{- if or .Values.modelVolume.enabled .Values.modelImage.enabled }}
{{- $_ := set $settings "MIXER_MODEL_REPOSITORY" "/models" }}
{{- end }}
{{- if .Values.apiKeys.enabled }}
{{- $_ := set $settings "MIXER_API_KEYS_FILE" "/etc/mixer/api-keys" }}
{{- end }}
{{- if .Values.adminKeys.enabled }}
{{- $_ := set $settings "MIXER_ADMIN_KEYS_FILE" "/etc/mixer-admin/admin-keys" }}
{{- end }}
{{- if .Values.grpc.enabled }}
{{- $_ := set $settings "MIXER_GRPC_PORT" "8001" }}
{{- /* 96 MiB. Messages on their way take as much again, and short ones 64 MiB: together what bodies alone take by default. */}}
{{- $_ := set $settings "MIXER_MAX_INFLIGHT_BYTES" "100663296" }}
{{- end }}
{{- if .Values.tracing.enabled }}
{{- $_ := set $settings "MIXER_TRACING" "true" }}
{{- $_ := set $settings "OTEL_EXPORTER_OTLP_ENDPOINT" .Values.tracing.endpoint }}
{{- $_ := set $settings "OTEL_TRACES_SAMPLER" "parentbased_traceidratio" }}
{{- $_ := set $settings "OTEL_TRACES_SAMPLER_ARG" (toJson .Values.tracing.ratio) }}
{{- end }}
{{- range $name, $value := .Values.settings }}
{{- $_ := set $settings $name (kindIs "string" $value | ternary $value (toJson $value)) }}
{{- end }}
{{- toYaml $settings }}
{{- end }}

{{/* Ends in a hash of the settings, so that a changed one rolls the pods; kustomize's own, so that both make the same name. */}}
{{- define "mixer.settingsName" -}}
{{- $name := printf "%s-settings" .Release.Name }}
{{- $content := dict "kind" "ConfigMap" "name" "" "data" (include "mixer.settings" . | fromYaml) }}
{{- $hash := $content | toJson | sha256sum | trunc 10 }}
{{- $hash = $hash | replace "0" "g" | replace "1" "h" | replace "3" "k" | replace "a" "m" | replace "e" "t" }}
{{- printf "%s-%s" $name $hash }}
{{- end }}
