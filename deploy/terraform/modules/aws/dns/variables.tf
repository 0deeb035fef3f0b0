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

variable "vpc_id" {
  description = "VPC of module network."
  type        = string
}

variable "subnet_ids" {
  description = "Subnets of module network: a name server's address in each."
  type        = list(string)
}

variable "zone" {
  description = "The zone that the cluster answers for, such as gw.example.com: what the parent delegates."
  type        = string

  validation {
    condition     = can(regex("^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\\.)+[a-z]{2,}$", var.zone))
    error_message = "Write a name such as gw.example.com, with no dot at the end."
  }
}

variable "parent_zone_id" {
  description = "Route 53 zone of the parent, where the glue of this region's name servers is written; empty if the parent is elsewhere."
  type        = string
  default     = ""
}

variable "tags" {
  description = "Further tags of every resource."
  type        = map(string)
  default     = {}
}

