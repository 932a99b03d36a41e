{{- define "mixer.mounts" -}}
{{- if .Values.adminKeys.enabled }}
- name: admin-keys
  mountPath: /etc/mixer-admin
  readOnly: true
{{- end }}
{{- if .Values.apiKeys.enabled }}
- name: api-keys
  mountPath: /etc/mixer
  readOnly: true
{{- end }}
{{- if or .Values.modelVolume.enabled .Values.modelImage.enabled }}
- name: models
  mountPath: /models
  readOnly: true
{{- end }}
{{- end }}

{{- define "mixer.volumes" -}}
{{- if .Values.adminKeys.enabled }}
- name: admin-keys
  secret:
    secretName: {{ .Values.adminKeys.secretName | default (printf "%s-admin-keys" .Release.Name) }}
    defaultMode: 0440
{{- end }}
{{- if .Values.apiKeys.enabled }}
- name: api-keys
  secret:
    secretName: {{ .Values.apiKeys.secretName | default (printf "%s-api-keys" .Release.Name) }}
    defaultMode: 0440
{{- end }}
{{- if .Values.modelVolume.enabled }}
- name: models
  persistentVolumeClaim:
    claimName: {{ include "mixer.claimName" . }}
    readOnly: true
{{- end }}
{{- if .Values.modelImage.enabled }}
- name: models
  image:
    reference: {{ .Values.modelImage.reference }}
    pullPolicy: IfNotPresent
{{- end }}
{{- end }}

{{- define "mixer.claimName" -}}
{{ .Values.modelVolume.existingClaim | default (printf "%s-models" .Release.Name) }}
{{- end }}
