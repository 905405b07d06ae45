{{- define "hourcast.fullname" -}}
{{- .Values.fullnameOverride | default .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{/* hourcast.selector: (list $ "component") */}}
{{- define "hourcast.selector" -}}
app.kubernetes.io/name: hourcast
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "hourcast.labels" -}}
{{ include "hourcast.selector" . }}
app.kubernetes.io/version: {{ (index . 0).Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ (index . 0).Release.Service }}
helm.sh/chart: hourcast-{{ (index . 0).Chart.Version }}
{{- end }}

{{/* hourcast.image: (list $ "etl") */}}
{{- define "hourcast.image" -}}
{{- $root := index . 0 -}}
{{- $image := index $root.Values.images (index . 1) -}}
{{ $image.repository }}:{{ $image.tag | default $root.Values.images.tag | default $root.Chart.AppVersion }}
{{- end }}

{{/* What every pod has: (list $ "component" user) */}}
{{- define "hourcast.pod" -}}
{{- $root := index . 0 -}}
{{- $user := 10001 -}}
{{- if gt (len .) 2 }}{{ $user = index . 2 }}{{ end -}}
serviceAccountName: {{ include "hourcast.fullname" $root }}-{{ index . 1 }}
automountServiceAccountToken: {{ eq (index . 1) "controller" }}
# Kubernetes would set HOURCAST_MLFLOW_PORT and the like, which are names of settings.
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: {{ $user }}
  runAsGroup: {{ $user }}
  fsGroup: {{ $user }}
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- with $root.Values.images.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with $root.Values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $root.Values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* What every container has: (list $ "image") */}}
{{- define "hourcast.container" -}}
image: {{ include "hourcast.image" . }}
imagePullPolicy: {{ (index . 0).Values.images.pullPolicy }}
terminationMessagePolicy: FallbackToLogsOnError
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{- define "hourcast.configChecksum" -}}
{{ include "hourcast.config" . | sha256sum | trunc 16 }}
{{- end }}

{{/* Settings that every service shares. */}}
{{- define "hourcast.config" -}}
HOURCAST_MODEL_NAME: {{ .Values.model.name | quote }}
HOURCAST_CLOCK: {{ .Values.clock | quote }}
HOURCAST_LOG_LEVEL: {{ .Values.logLevel | quote }}
HOURCAST_SYNTHETIC: {{ eq .Values.etl.source "sample" | quote }}
HOURCAST_STATE_DIR: /tmp/hourcast
HOURCAST_MLFLOW_URL: {{ include "hourcast.mlflowUrl" . }}
{{- with .Values.series }}
HOURCAST_SERIES: {{ toJson . | quote }}
{{- end }}
{{- range $name, $value := .Values.settings }}
HOURCAST_{{ $name }}: {{ $value | quote }}
{{- end }}
{{- end }}

{{- define "hourcast.mlflowUrl" -}}
{{- if .Values.mlflow.enabled -}}
http://{{ include "hourcast.fullname" . }}-mlflow:5000
{{- else -}}
{{ .Values.mlflow.url }}
{{- end -}}
{{- end }}

{{- define "hourcast.mysqlHost" -}}
{{- if .Values.mysql.enabled }}{{ include "hourcast.fullname" . }}-mysql{{ else }}{{ .Values.mysql.host }}{{ end -}}
{{- end }}

{{- define "hourcast.mysqlPort" -}}
{{- if .Values.mysql.enabled }}3306{{ else }}{{ .Values.mysql.port }}{{ end -}}
{{- end }}

{{- define "hourcast.mysqlAdminSecret" -}}
{{ .Values.mysql.existingSecret | default (printf "%s-mysql" (include "hourcast.fullname" .)) }}
{{- end }}

{{- define "hourcast.mysqlAccountsSecret" -}}
{{ .Values.mysql.accountsSecret | default (printf "%s-mysql-accounts" (include "hourcast.fullname" .)) }}
{{- end }}

{{- define "hourcast.s3Endpoint" -}}
{{- if .Values.s3.enabled }}http://{{ include "hourcast.fullname" . }}-minio:9000{{ else }}{{ .Values.s3.endpoint }}{{ end -}}
{{- end }}

{{- define "hourcast.s3AdminSecret" -}}
{{ .Values.s3.existingSecret | default (printf "%s-s3" (include "hourcast.fullname" .)) }}
{{- end }}

{{- define "hourcast.s3AccountsSecret" -}}
{{ .Values.s3.accountsSecret | default (printf "%s-s3-accounts" (include "hourcast.fullname" .)) }}
{{- end }}

{{- define "hourcast.internalSecret" -}}
{{ include "hourcast.fullname" . }}-internal
{{- end }}

{{/* A variable from a secret: (list NAME secret key) */}}
{{- define "hourcast.secretEnv" -}}
- name: {{ index . 0 }}
  valueFrom: {secretKeyRef: {name: {{ index . 1 }}, key: {{ index . 2 }}}}
{{- end }}

{{/* The same, absent where the secret has no such key: (list NAME secret key) */}}
{{- define "hourcast.optionalEnv" -}}
- name: {{ index . 0 }}
  valueFrom: {secretKeyRef: {name: {{ index . 1 }}, key: {{ index . 2 }}, optional: true}}
{{- end }}

{{/* Way to the store: (list $ "account") */}}
{{- define "hourcast.storeEnv" -}}
{{- $root := index . 0 -}}
- name: HOURCAST_DATABASE_URL
  value: mysql+pymysql://{{ $root.Values.mysql.prefix }}_{{ index . 1 }}@{{ include "hourcast.mysqlHost" $root }}:{{ include "hourcast.mysqlPort" $root }}/{{ $root.Values.mysql.prefix }}
{{ include "hourcast.secretEnv" (list "HOURCAST_DATABASE_PASSWORD" (include "hourcast.mysqlAccountsSecret" $root) (index . 1)) }}
{{- end }}

{{/* Way to the bucket: (list $ "account") */}}
{{- define "hourcast.bucketEnv" -}}
{{- $root := index . 0 -}}
- name: HOURCAST_BUCKET_URL
  value: s3://{{ $root.Values.s3.bucket }}
{{ include "hourcast.s3Env" . }}
{{- end }}

{{/* Where S3 is, and as whom: (list $ "account") */}}
{{- define "hourcast.s3Env" -}}
{{- $root := index . 0 -}}
{{- $secret := include "hourcast.s3AccountsSecret" $root -}}
- name: HOURCAST_S3_ENDPOINT_URL
  value: {{ include "hourcast.s3Endpoint" $root | quote }}
- name: AWS_DEFAULT_REGION
  value: {{ $root.Values.s3.region }}
{{ include "hourcast.secretEnv" (list "AWS_ACCESS_KEY_ID" $secret (printf "%s-access-key" (index . 1))) }}
{{ include "hourcast.secretEnv" (list "AWS_SECRET_ACCESS_KEY" $secret (printf "%s-secret-key" (index . 1))) }}
{{- end }}

{{/* Credentials of an MLflow that exists already. */}}
{{- define "hourcast.mlflowEnv" -}}
{{- if and (not .Values.mlflow.enabled) .Values.mlflow.existingSecret }}
{{ include "hourcast.secretEnv" (list "MLFLOW_TRACKING_USERNAME" .Values.mlflow.existingSecret "username") }}
{{ include "hourcast.secretEnv" (list "MLFLOW_TRACKING_PASSWORD" .Values.mlflow.existingSecret "password") }}
{{- end }}
{{- end }}

{{- define "hourcast.envFrom" -}}
envFrom:
  - configMapRef: {name: {{ include "hourcast.fullname" . }}-config}
{{- end }}

{{- define "hourcast.tmpMount" -}}
- {name: tmp, mountPath: /tmp}
{{- end }}

{{- define "hourcast.tmpVolume" -}}
- {name: tmp, emptyDir: {}}
{{- end }}

{{/* A password that is there already, or a new one: (list $ "secret" "key" length) */}}
{{- define "hourcast.kept" -}}
{{- $found := lookup "v1" "Secret" (index . 0).Release.Namespace (index . 1) -}}
{{- $value := "" -}}
{{- if $found }}{{ $value = index ($found.data | default dict) (index . 2) | default "" }}{{ end -}}
{{- $value | default (randAlphaNum (int (index . 3)) | b64enc) -}}
{{- end }}

{{/* A Fernet key that is there already, or a new one: (list $ "secret" "key") */}}
{{- define "hourcast.keptKey" -}}
{{- $found := lookup "v1" "Secret" (index . 0).Release.Namespace (index . 1) -}}
{{- $value := "" -}}
{{- if $found }}{{ $value = index ($found.data | default dict) (index . 2) | default "" }}{{ end -}}
{{- $value | default (randBytes 32 | replace "+" "-" | replace "/" "_" | b64enc) -}}
{{- end }}

{{- define "hourcast.mlflowDatabaseUrl" -}}
mysql+pymysql://{{ .Values.mysql.prefix }}_mlflow@{{ include "hourcast.mysqlHost" . }}:{{ include "hourcast.mysqlPort" . }}/{{ .Values.mysql.prefix }}_mlflow
{{- end }}

{{/* A job whose name changes with what it does, since a job cannot be changed: (list $ "component" "name" spec) */}}
{{- define "hourcast.job" -}}
{{- $root := index . 0 -}}
apiVersion: batch/v1
kind: Job
metadata:
  name: {{ include "hourcast.fullname" $root }}-{{ index . 2 }}-{{ index . 3 | sha256sum | trunc 8 }}
  labels: {{- include "hourcast.labels" (list $root (index . 1)) | nindent 4 }}
spec: {{- index . 3 | nindent 2 }}
{{- end }}

{{- define "hourcast.webhookSecret" -}}
{{ .Values.controller.existingSecret | default (include "hourcast.internalSecret" .) }}
{{- end }}

{{/* Which version a pod serves: the controller writes it on the pod template, and nothing else does. */}}
{{- define "hourcast.servedEnv" -}}
- name: HOURCAST_MODEL_VERSION
  valueFrom: {fieldRef: {fieldPath: "metadata.annotations['hourcast.io/model-version']"}}
- name: HOURCAST_MODEL_ALIAS
  valueFrom: {fieldRef: {fieldPath: "metadata.annotations['hourcast.io/model-alias']"}}
{{- end }}

{{/* An ingress: (list $ "component" "service" port values) */}}
{{- define "hourcast.ingress" -}}
{{- $ingress := index . 4 -}}
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: {{ include "hourcast.fullname" (index . 0) }}-{{ index . 2 }}
  labels: {{- include "hourcast.labels" . | nindent 4 }}
  {{- with $ingress.annotations }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  {{- with $ingress.className }}
  ingressClassName: {{ . }}
  {{- end }}
  {{- with $ingress.tlsSecret }}
  tls:
    - {hosts: [{{ $ingress.host }}], secretName: {{ . }}}
  {{- end }}
  rules:
    - host: {{ $ingress.host }}
      http:
        paths:
          - path: /
            pathType: Prefix
            backend: {service: {name: {{ include "hourcast.fullname" (index . 0) }}-{{ index . 2 }}, port: {number: {{ index . 3 }}}}}
{{- end }}
