variable "cloud_region" {
  description = "The region as Google Cloud names it, such as europe-west1."
  type        = string

  validation {
    condition     = can(regex("^[a-z]+-[a-z]+[0-9]+$", var.cloud_region))
    error_message = "Write a region such as europe-west1."
  }
}

variable "network" {
  description = "The VPC of the whole cluster, without subnets of its own making: id of a google_compute_network."
  type        = string
}

variable "machine_types" {
  description = "Machines of nodes and of etcd members."
  type = object({
    node = optional(string, "n2-standard-2")
    etcd = optional(string, "e2-small")
  })
  default = {}
}

variable "image" {
  description = "Image with cloud-init, which Google's Debian has not: Ubuntu 24.04 or later."
  type        = string
  default     = "ubuntu-os-cloud/ubuntu-2404-lts-amd64"
}

variable "parent_managed_zone" {
  description = "Managed zone of the parent in Cloud DNS, where the glue of this region's name servers is written; empty if the parent is elsewhere."
  type        = string
  default     = ""
}

variable "emails" {
  description = "Who is told of alarms."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for email in var.emails : can(regex("^[^@[:space:]]+@[^@[:space:]]+$", email))])
    error_message = "Each is an address such as operators@example.com."
  }
}

variable "labels" {
  description = "Further labels of every resource that takes them."
  type        = map(string)
  default     = {}
}
