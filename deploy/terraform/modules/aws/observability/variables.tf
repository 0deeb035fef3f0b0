variable "name" {
  description = "Name of the cluster, the same in every region; part of every resource's name."
  type        = string
  default     = "meridian"

  validation {
    condition     = can(regex("^[a-z]([a-z0-9-]{0,18}[a-z0-9])?$", var.name))
    error_message = "Use at most 20 lower-case letters, digits and '-', a letter first: load balancers take 32 in all."
  }
}

variable "region" {
  description = "The region as Meridian knows it: the --region of nodes, and regions[].name of the document."
  type        = string

  validation {
    condition     = can(regex("^[a-z]([a-z0-9-]{0,18}[a-z0-9])?$", var.region))
    error_message = "Use at most 20 lower-case letters, digits and '-', a letter first."
  }
}

variable "autoscaling_group" {
  description = "Scaling group of module gateway."
  type        = string
}

variable "etcd_instances" {
  description = "Machines of etcd members by name: module etcd's instance_ids."
  type        = map(string)
  default     = {}
}

variable "dns_load_balancer" {
  description = "Module dns's load_balancer."
  type        = object({ load_balancer = string, target_group = string })
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

variable "tags" {
  description = "Further tags of every resource."
  type        = map(string)
  default     = {}
}

