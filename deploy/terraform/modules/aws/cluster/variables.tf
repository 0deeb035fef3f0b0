variable "peerings" {
  description = "Routes to the other regions: their network, and the id of the peering connection."
  type        = map(string)
  default     = {}
}

variable "instance_types" {
  description = "Machines of nodes and of etcd members."
  type = object({
    node = optional(string, "c6i.large")
    etcd = optional(string, "t3.small")
  })
  default = {}
}

variable "parent_zone_id" {
  description = "Route 53 zone of the parent, where the glue of this region's name servers is written; empty if the parent is elsewhere."
  type        = string
  default     = ""
}

variable "emails" {
  description = "Who is told; each confirms by a mail from AWS."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for email in var.emails : can(regex("^[^@[:space:]]+@[^@[:space:]]+$", email))])
    error_message = "Each is an address such as operators@example.com."
  }
}

variable "ami_id" {
  description = "Image: Debian 12 or Ubuntu 24.04, or later. Empty: the newest Debian 12, for x86."
  type        = string
  default     = ""
}

variable "key_name" {
  description = "SSH key pair of operators; empty for none."
  type        = string
  default     = ""
}

variable "tags" {
  description = "Further tags of every resource."
  type        = map(string)
  default     = {}
}
