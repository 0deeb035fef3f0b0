# What the examples for Google Cloud and Hetzner ask alike; each has a link to this file.
variable "name" {
  description = "Name of the cluster."
  type        = string
  default     = "meridian"
}

variable "zone" {
  description = "The zone that the cluster answers for."
  type        = string
}

variable "join_token" {
  description = "Of meridian pki token: --names '*' --network 10.0.0.0/8 --uses 50 --hours 2."
  type        = string
  sensitive   = true
}

variable "bundle_url" {
  description = "Where machines fetch the bundle."
  type        = string
}

variable "bundle_sha256" {
  description = "Its SHA-256, as scripts/bundle printed it."
  type        = string
}

variable "operator_cidrs" {
  description = "From where operators reach SSH and the admin API."
  type        = list(string)
  default     = []
}
