{{- define "mixer.image" -}}
{{- with .Values.image }}
{{- if .digest }}
{{- printf "%s@%s" .repository .digest }}
{{- else }}
{{- $target := $.Values.gpu.enabled | ternary "-gpu" "" }}
{{- printf "%s:%s" .repository (.tag | default (print $.Chart.AppVersion $target)) }}
{{- end }}
{{- end }}
{{- end }}
